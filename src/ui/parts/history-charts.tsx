// The charts of the last hour, drawn by uPlot: boxes, CPU, memory, commands per second, and durations of requests.
// The current value of each chart is also text above it, for screen readers.
import { useLayoutEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { UsageSample } from '../../sdk/browser.ts';
import { useStore } from '../live/store.ts';
import { theme, themeColour as colour } from '../live/theme.ts';
import { usage } from '../live/usage.ts';
import { formatCpus, formatMemory, formatSpan } from './format.ts';

interface Line {
  /** Empty if the chart has only one line. */
  readonly name: string;
  readonly read: (sample: UsageSample) => number | null;
}

interface ChartSpec {
  readonly title: string;
  /** One or two lines. The second one is thinner and dashed. */
  readonly lines: readonly Line[];
  readonly format: (value: number) => string;
}

const formatMegabytes = (value: number): string => formatMemory(Math.round(value));

const charts: readonly ChartSpec[] = [
  { title: 'Boxes running', lines: [{ name: '', read: (sample) => sample.boxes_running }], format: String },
  {
    title: 'CPU',
    format: formatCpus,
    lines: [
      { name: 'used', read: (sample) => sample.cpu_used },
      { name: 'reserved', read: (sample) => sample.cpu_reserved },
    ],
  },
  {
    title: 'Memory',
    format: formatMegabytes,
    lines: [
      { name: 'used', read: (sample) => sample.memory_used_mb },
      { name: 'reserved', read: (sample) => sample.memory_reserved_mb },
    ],
  },
  {
    title: 'Commands per second',
    lines: [{ name: '', read: (sample) => sample.execs_per_second }],
    format: (value) => value.toFixed(1),
  },
  { title: 'Create takes', lines: [{ name: '', read: (sample) => sample.create_ms }], format: formatSpan },
  { title: 'Commands take', lines: [{ name: '', read: (sample) => sample.exec_ms }], format: formatSpan },
];

export function HistoryCharts() {
  const samples = useStore(usage.samples);
  useStore(theme); // Style sheets do not reach a canvas, so the charts are created again when the theme changes.
  return (
    <div class="charts">
      {charts.map((chart) => (
        <Chart key={`${chart.title} ${theme.get()}`} {...chart} samples={samples} />
      ))}
    </div>
  );
}

const height = 90;

function Chart({ title, lines, format, samples }: ChartSpec & { readonly samples: readonly UsageSample[] }) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);

  useLayoutEffect(() => {
    const element = host.current;
    if (element === null) return;
    const created = new uPlot(optionsFor(element, lines.length, format), [[], ...lines.map(() => [])], element);
    plot.current = created;
    const observer = new ResizeObserver(() => {
      created.setSize({ width: element.clientWidth, height });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      created.destroy();
      plot.current = null;
    };
  }, [lines, format]);

  useLayoutEffect(() => {
    plot.current?.setData([
      samples.map(({ at }) => Date.parse(at) / 1000),
      ...lines.map(({ read }) => samples.map(read)),
    ]);
  }, [samples, lines, format]);

  return (
    <figure class="chart">
      <figcaption>
        {title}:{' '}
        {lines.map(({ name, read }, at) => {
          const last = samples.map(read).findLast((value) => value !== null) ?? null;
          return (
            <span key={name}>
              {at > 0 ? ', ' : ''}
              <strong>{last === null ? 'nothing yet' : format(last)}</strong> {name}
            </span>
          );
        })}
      </figcaption>
      <div ref={host} class="plot" aria-hidden="true" />
    </figure>
  );
}

function optionsFor(element: HTMLElement, lines: number, format: (value: number) => string): uPlot.Options {
  const axis = {
    stroke: colour('--chart-text'),
    grid: { stroke: colour('--chart-grid'), width: 1 },
    ticks: { show: false },
    font: '11px system-ui, sans-serif',
  };
  return {
    width: element.clientWidth,
    height,
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { time: true, range: () => [Date.now() / 1000 - 3_600, Date.now() / 1000] },
      y: { range: (_plot, _least, most) => [0, Math.max(1, (most ?? 0) * 1.15)] },
    },
    axes: [
      {
        ...axis,
        size: 22,
        space: 70,
        values: (_plot, marks) =>
          marks.map((mark) => new Date(mark * 1000).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })),
      },
      { ...axis, size: 52, space: 28, values: (_plot, marks) => marks.map(format) },
    ],
    series: [
      {},
      {
        stroke: colour('--chart-line'),
        fill: colour('--chart-fill'),
        width: 1.5,
        spanGaps: true,
        points: { show: samplesAreFew },
      },
      { stroke: colour('--chart-text'), width: 1, dash: [4, 3], spanGaps: true, points: { show: false } },
    ].slice(0, 1 + lines),
  };
}

/** Points are drawn only while there are few samples: a line with one point would be invisible. */
function samplesAreFew(plot: uPlot): boolean {
  return plot.data[0].length < 12;
}
