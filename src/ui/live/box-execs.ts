// The commands of one box, newest first. It loads the newest page, and older pages on demand.
// State events keep the list up to date as long as a component uses it.
import { useEffect, useState } from 'preact/hooks';
import type { Exec } from '../../sdk/browser.ts';
import { onExecs } from './changes.ts';
import { boxrun } from './client.ts';

const pageRows = 100;
/** How many commands are kept when new ones come. Older ones can be loaded again. */
const keptMax = 2_000;

export interface BoxExecs {
  /** Null until the first page has been loaded. */
  readonly execs: readonly Exec[] | null;
  readonly error: unknown;
  readonly hasOlder: boolean;
  loadOlder(): void;
}

export function useBoxExecs(boxId: string): BoxExecs {
  const [execs, setExecs] = useState<readonly Exec[] | null>(null);
  const [cursor, setCursor] = useState<string | null>(null);
  const [error, setError] = useState<unknown>(null);

  useEffect(() => {
    const unmounted = new AbortController();
    const list = async (): Promise<void> => {
      try {
        const page = await boxrun.pageOfExecs(boxId, { limit: pageRows }, { signal: unmounted.signal });
        setExecs((known) => merge(page.rows, known ?? []));
        setCursor(page.nextCursor);
        setError(null);
      } catch (problem) {
        if (!unmounted.signal.aborted) setError(problem);
      }
    };
    setExecs(null);
    const close = onExecs(boxId, (exec) => {
      if (exec === 'missed') void list();
      else setExecs((known) => merge([exec], known ?? []).slice(0, keptMax));
    });
    void list();
    return () => {
      close();
      unmounted.abort();
    };
  }, [boxId]);

  return {
    execs,
    error,
    hasOlder: cursor !== null,
    loadOlder() {
      if (cursor === null) return;
      boxrun.pageOfExecs(boxId, { limit: pageRows, cursor }).then((page) => {
        setExecs((known) => merge(page.rows, known ?? []));
        setCursor(page.nextCursor);
      }, setError);
    },
  };
}

/** Merges by id, newest first. A command that has ended stays ended, even if a late answer says that it runs. */
export function merge(rows: readonly Exec[], known: readonly Exec[]): Exec[] {
  const all = new Map(known.map((exec) => [exec.id, exec]));
  for (const row of rows) {
    const before = all.get(row.id);
    if (before === undefined || before.status === 'running') all.set(row.id, row);
  }
  return [...all.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
}
