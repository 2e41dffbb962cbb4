// What has just happened, told at the edge of the page, and read out: a few lines that go by themselves, errors only
// when dismissed. Shown by app.tsx.
import { createStore, type Store } from './store.ts';
import { describeError } from './client.ts';

export interface Notice {
  readonly id: number;
  readonly kind: 'done' | 'error';
  readonly text: string;
}

const shownMax = 4;
const shownMs = 5_000;
let nextId = 1;

export const notices: Store<readonly Notice[]> = createStore<readonly Notice[]>([]);

export function tell(text: string): void {
  const id = add('done', text);
  setTimeout(() => {
    dismiss(id);
  }, shownMs);
}

export function tellError(what: string, error: unknown): void {
  const { message, hint } = describeError(error);
  add('error', `${what}: ${message}${hint === null ? '' : ` (${hint})`}`);
}

export function dismiss(id: number): void {
  notices.set(notices.get().filter((notice) => notice.id !== id));
}

function add(kind: Notice['kind'], text: string): number {
  const id = nextId++;
  notices.set([...notices.get(), { id, kind, text }].slice(-shownMax));
  return id;
}
