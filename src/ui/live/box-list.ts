// Decides which boxes are listed, and in which order. The user's choice and selection are stores, so that they stay
// when the user opens a box and comes back. All else here has no side effects.
import type { Box, BoxStatus } from '../../sdk/browser.ts';
import { createStore, type Store } from './store.ts';

export const sortKeys = ['name', 'status', 'image', 'cpu', 'memory_mb', 'created_at'] as const;
export type SortKey = (typeof sortKeys)[number];

export interface BoxChoice {
  readonly text: string;
  readonly status: BoxStatus | 'all';
  readonly sort: SortKey;
  readonly descending: boolean;
}

export const boxChoice: Store<BoxChoice> = createStore<BoxChoice>({
  text: '',
  status: 'all',
  sort: 'created_at',
  descending: true,
});
export const selectedBoxes: Store<ReadonlySet<string>> = createStore<ReadonlySet<string>>(new Set());

/** Filters and sorts boxes. Each word of the text must be in the name, the id, the image or a label (`key=value`). */
export function chooseBoxes(boxes: ReadonlyMap<string, Box>, { text, status, sort, descending }: BoxChoice): Box[] {
  const words = text
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '');
  const chosen = [...boxes.values()].filter((box) => {
    if (status !== 'all' && box.status !== status) return false;
    if (words.length === 0) return true;
    const labels = Object.entries(box.labels).map(([key, value]) => `${key}=${value}`);
    const searched = [box.name ?? '', box.id, box.image, ...labels].join('\n').toLowerCase();
    return words.every((word) => searched.includes(word));
  });
  const direction = descending ? -1 : 1;
  // Boxes that are equal are sorted by age and id, so that a change of a box does not reorder them.
  return chosen.sort(
    (a, b) =>
      direction *
      (compare(keyOf(a, sort), keyOf(b, sort)) || compare(a.created_at, b.created_at) || compare(a.id, b.id)),
  );
}

function keyOf(box: Box, sort: SortKey): string | number {
  return sort === 'name' ? (box.name ?? box.id).toLowerCase() : box[sort];
}

function compare(a: string | number, b: string | number): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

export function toggleSelected(id: string): void {
  const next = new Set(selectedBoxes.get());
  if (!next.delete(id)) next.add(id);
  selectedBoxes.set(next);
}
