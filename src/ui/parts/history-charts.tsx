// The charts of the last hour, drawn by uPlot: boxes, reserved CPU and memory, commands a second, and how long things took.
// Loaded when it is shown. What each chart says now stands over it in words, for those who do not see it as well.
import { useLayoutEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { history, type Sample } from '../live/history.ts';
import { useStore } from '../live/store.ts';
import { theme, themeColour as colour } from '../live/theme.ts';
import { formatMemory, formatSpan } from './format.ts';

interface ChartSpec {
  readonly title: string;
  readonly read: (sample: Sample) => number | null;
  readonly format: (value: number) => string;
}

const charts: readonly ChartSpec[] = [
  { title: 'Boxes running', read: ({ running }) => running, format: String },
  { title: 'CPU reserved', read: ({ cpu }) => cpu, format: String },
  { title: 'Memory reserved', read: ({ memoryMb }) => memoryMb, format: (value) => formatMemory(Math.round(value)) },
  { title: 'Commands a second', read: ({ execsPerSecond }) => execsPerSecond, format: (value) => value.toFixed(1) },
  { title: 'Create takes', read: ({ createMs }) => createMs, format: formatSpan },
  { title: 'Commands take', read: ({ execMs }) => execMs, format: formatSpan },
];

export function HistoryCharts() {
  const samples = useStore(history.samples);
  useStore(theme); // Canvases do not see style sheets: they are drawn anew in other colours.
  return (
    <div class="charts">
      {charts.map((chart) => <Chart key={`${chart.title} ${theme.get()}`} {...chart} samples={samples} />)}
    </div>
  );
}

const height = 90;

function Chart({ title, read, format, samples }: ChartSpec & { readonly samples: readonly Sample[] }) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const last = samples.map(read).findLast((value) => value !== null) ?? null;

  useLayoutEffect(() => {
    const element = host.current;
    if (element === null) return;
    const made = new uPlot(optionsFor(element, format), [[], []], element);
    plot.current = made;
    const observer = new ResizeObserver(() => { made.setSize({ width: element.clientWidth, height }); });
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [format]);

  useLayoutEffect(() => {
    plot.current?.setData([samples.map(({ at }) => at), samples.map(read)]);
  }, [samples, read, format]);

  return (
    <figure class="chart">
      <figcaption>{title}: <strong>{last === null ? 'nothing yet' : format(last)}</strong></figcaption>
      <div ref={host} class="plot" aria-hidden="true" />
    </figure>
  );
}

function optionsFor(element: HTMLElement, format: (value: number) => string): uPlot.Options {
  const axis = { stroke: colour('--chart-text'), grid: { stroke: colour('--chart-grid'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
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
      { ...axis, size: 22, space: 70, values: (_plot, marks) => marks.map((mark) => new Date(mark * 1000).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })) },
      { ...axis, size: 52, space: 28, values: (_plot, marks) => marks.map(format) },
    ],
    series: [{}, { stroke: colour('--chart-line'), fill: colour('--chart-fill'), width: 1.5, spanGaps: true, points: { show: samplesAreFew } }],
  };
}

/** A line of one point would not be seen. */
function samplesAreFew(plot: uPlot): boolean {
  return plot.data[0].length < 12;
}
