// The totals of all boxes: CPU and memory that boxes reserve and use, disk, and charts of the last hour.
// The charts are a separate script, which is loaded when they are first shown.
import { useEffect, useState } from 'preact/hooks';
import { changes } from '../live/changes.ts';
import { useStore } from '../live/store.ts';
import { totalsOf, usage } from '../live/usage.ts';
import { formatCpus, formatMemory } from './format.ts';
import type * as ChartsModule from './history-charts.tsx';

export function TotalsPanel() {
  const { running, all, cpu, memoryMb, diskGb } = totalsOf(useStore(changes.boxes));
  const info = useStore(changes.info);
  const last = useStore(usage.samples).at(-1);
  const [isOpen, setOpen] = useState(() => innerHeight > 700 && innerWidth > 700);
  return (
    <section class="totals" aria-label="Totals">
      <dl class="meters">
        <Meter
          title="Boxes running"
          value={String(running)}
          of={`of ${all}${last === undefined ? '' : `; at most ${last.max_boxes}`}`}
          share={last === undefined ? 0 : all / last.max_boxes}
        />
        <Meter
          title="CPU reserved"
          value={String(cpu)}
          of={info === null ? '' : `of ${info.max_cpu}`}
          share={info === null ? 0 : cpu / info.max_cpu}
          used={last === undefined ? null : formatCpus(last.cpu_used)}
          usedShare={last === undefined || info === null ? 0 : last.cpu_used / info.max_cpu}
        />
        <Meter
          title="Memory reserved"
          value={formatMemory(memoryMb)}
          of={info === null ? '' : `of ${formatMemory(info.max_memory_mb)}`}
          share={info === null ? 0 : memoryMb / info.max_memory_mb}
          used={last === undefined ? null : formatMemory(Math.ceil(last.memory_used_mb))}
          usedShare={last === undefined || info === null ? 0 : last.memory_used_mb / info.max_memory_mb}
        />
        <Meter
          title="Disk, at most"
          value={`${diskGb} GB`}
          of={`of all boxes${last === undefined ? '' : `; ${formatMemory(last.disk_free_mb)} free`}`}
          share={last === undefined ? null : 1 - last.disk_free_mb / last.disk_size_mb}
        />
      </dl>
      <details
        open={isOpen}
        onToggle={(event) => {
          setOpen(event.currentTarget.open);
        }}
      >
        <summary>Last hour</summary>
        {isOpen ? <Charts /> : null}
      </details>
    </section>
  );
}

interface MeterProps {
  readonly title: string;
  readonly value: string;
  readonly of: string;
  /** How full the first bar is, from 0 to 1; null: no bar. */
  readonly share: number | null;
  /** How much is used, as text; absent or null if it is not known. */
  readonly used?: string | null;
  readonly usedShare?: number;
}

function Meter({ title, value, of, share, used = null, usedShare = 0 }: MeterProps) {
  const percentOf = (part: number): number => Math.min(100, Math.round(part * 100));
  const percent = percentOf(share ?? 0);
  return (
    <div class="meter">
      <dt>{title}</dt>
      <dd>
        <strong>{value}</strong> {of}
        {used === null ? null : <span class="used">, {used} used</span>}
      </dd>
      {share === null ? null : (
        <span class={`bar ${percent >= 90 ? 'full' : ''}`} aria-hidden="true">
          <span style={{ width: `${percent}%` }} />
          <span class="used" style={{ width: `${percentOf(usedShare)}%` }} />
        </span>
      )}
    </div>
  );
}

function Charts() {
  const [module, setModule] = useState<typeof ChartsModule | null>(null);
  useEffect(() => {
    void import('./history-charts.tsx').then(setModule, () => undefined); // The totals are shown without charts.
  }, []);
  return module === null ? <p class="charts-space" /> : <module.HistoryCharts />;
}
