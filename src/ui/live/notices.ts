// Notices at the edge of the page, which screen readers read out. A notice of success disappears after some seconds. An
// error stays until the user closes it, or until four newer notices have come.
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

/** Shows that something has succeeded. */
export function showNotice(text: string): void {
  const id = add('done', text);
  setTimeout(() => {
    removeNotice(id);
  }, shownMs);
}

/** Shows an error. @param what the action that failed */
export function showError(what: string, error: unknown): void {
  const { message, hint } = describeError(error);
  add('error', `${what}: ${message}${hint === null ? '' : ` (${hint})`}`);
}

export function removeNotice(id: number): void {
  notices.set(notices.get().filter((notice) => notice.id !== id));
}

function add(kind: Notice['kind'], text: string): number {
  const id = nextId++;
  notices.set([...notices.get(), { id, kind, text }].slice(-shownMax));
  return id;
}
