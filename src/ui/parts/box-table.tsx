// The table of boxes. Its column heads sort, and its checkboxes select. It draws only the rows on the screen.
// boxes-page.tsx handles the arrow keys; it finds the rows by `data-row`.
import { useRef } from 'preact/hooks';
import type { Box, BoxUsage } from '../../sdk/browser.ts';
import { boxTitle, busyBoxes } from '../live/box-actions.ts';
import { boxChoice, selectedBoxes, toggleSelected, type SortKey } from '../live/box-list.ts';
import { useStore } from '../live/store.ts';
import { usage } from '../live/usage.ts';
import { hrefOf } from '../router.ts';
import { Status } from './basics.tsx';
import { formatAge, formatCpus, formatMemory, formatTime } from './format.ts';
import { useRowWindow } from './window-rows.ts';

/** In pixels. It must be the same as in boxes.css. */
const rowHeight = 48;

interface Column {
  readonly key: SortKey;
  readonly title: string;
  readonly kind?: string;
}

const columns: readonly Column[] = [
  { key: 'name', title: 'Name' },
  { key: 'status', title: 'Status', kind: 'narrow' },
  { key: 'image', title: 'Image', kind: 'wide' },
  { key: 'cpu', title: 'CPU', kind: 'wide number cpu' },
  { key: 'memory_mb', title: 'Memory', kind: 'wide number memory' },
  { key: 'created_at', title: 'Age', kind: 'age number' },
];

export function BoxTable({ boxes, now }: { readonly boxes: readonly Box[]; readonly now: number }) {
  const body = useRef<HTMLTableSectionElement>(null);
  const { first, end } = useRowWindow(body, boxes.length, rowHeight);
  const selected = useStore(selectedBoxes);
  const busy = useStore(busyBoxes);
  const used = useStore(usage.boxes);
  const chosen = boxes.filter(({ id }) => selected.has(id)).length;
  const selectAll = (): void => {
    selectedBoxes.set(chosen === boxes.length ? new Set() : new Set(boxes.map(({ id }) => id)));
  };
  return (
    <table class="boxes" aria-rowcount={boxes.length + 1}>
      <caption class="unseen">Boxes</caption>
      <thead>
        <tr aria-rowindex={1}>
          <th scope="col" class="select">
            <label class="check">
              <input
                type="checkbox"
                checked={chosen > 0 && chosen === boxes.length}
                indeterminate={chosen > 0 && chosen < boxes.length}
                onChange={selectAll}
              />
              <span class="unseen">Select all</span>
            </label>
          </th>
          {columns.map((column) => (
            <SortHead key={column.key} column={column} />
          ))}
          <th scope="col" class="labels">
            Labels
          </th>
        </tr>
      </thead>
      <tbody ref={body}>
        <Gap rows={first} />
        {boxes.slice(first, end).map((box, at) => (
          <BoxRow
            key={box.id}
            box={box}
            used={used[box.id] ?? null}
            index={first + at}
            isSelected={selected.has(box.id)}
            doing={busy.get(box.id) ?? null}
            now={now}
          />
        ))}
        <Gap rows={boxes.length - end} />
      </tbody>
    </table>
  );
}

function SortHead({ column: { key, title, kind = '' } }: { readonly column: Column }) {
  const choice = useStore(boxChoice);
  const isSorted = choice.sort === key;
  const order = choice.descending ? 'descending' : 'ascending';
  return (
    <th scope="col" class={kind} aria-sort={isSorted ? order : 'none'}>
      <button
        type="button"
        class="sort"
        onClick={() => {
          boxChoice.set({ ...choice, sort: key, descending: isSorted ? !choice.descending : key === 'created_at' });
        }}
      >
        {title}
        <span aria-hidden="true">{isSorted ? (choice.descending ? ' ↓' : ' ↑') : ''}</span>
      </button>
    </th>
  );
}

/** Takes the place of rows that are not drawn. */
function Gap({ rows }: { readonly rows: number }) {
  return rows === 0 ? null : (
    <tr aria-hidden="true" class="gap">
      <td colSpan={columns.length + 2} style={{ height: `${rows * rowHeight}px` }} />
    </tr>
  );
}

interface BoxRowProps {
  readonly box: Box;
  /** Null if the box does not run, or its use is not known yet. */
  readonly used: BoxUsage | null;
  readonly index: number;
  readonly isSelected: boolean;
  readonly doing: string | null;
  readonly now: number;
}

function BoxRow({ box, used, index, isSelected, doing, now }: BoxRowProps) {
  const labels = Object.entries(box.labels).map(([key, value]) => (value === '' ? key : `${key}=${value}`));
  return (
    <tr class={isSelected ? 'selected' : ''} aria-rowindex={index + 2} data-box={box.id}>
      <td class="select">
        <label class="check">
          <input
            type="checkbox"
            checked={isSelected}
            onChange={() => {
              toggleSelected(box.id);
            }}
          />
          <span class="unseen">Select {boxTitle(box)}</span>
        </label>
      </td>
      <th scope="row">
        <a href={hrefOf({ view: 'box', box: box.id, tab: 'commands' })} data-row={index}>
          {boxTitle(box)}
        </a>
        {box.name === null ? null : <span class="box-id">{box.id}</span>}
      </th>
      <td class="narrow">
        <Status status={doing ?? box.status} />
      </td>
      <td class="wide">{box.image}</td>
      <td class="wide number">
        <Use used={used === null || used.cpu_used === null ? null : formatCpus(used.cpu_used)} /> {box.cpu}
      </td>
      <td class="wide number">
        <Use used={used === null ? null : formatMemory(Math.ceil(used.memory_used_mb))} /> {formatMemory(box.memory_mb)}
      </td>
      <td class="age number" title={formatTime(box.created_at)}>
        {formatAge(box.created_at, now)}
      </td>
      <td class="labels">
        {labels.map((label) => (
          <span class="label" key={label}>
            {label}
          </span>
        ))}
      </td>
    </tr>
  );
}

/** The used amount, shown before the reserved amount. */
function Use({ used }: { readonly used: string | null }) {
  return used === null ? null : <span class="used">{used} of</span>;
}
