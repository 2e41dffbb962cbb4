// The commands of one box, newest first: the last ones listed, older ones on demand, kept up to date by the stream of
// changes. Used by the page of a box for as long as it is shown.
import { useEffect, useState } from 'preact/hooks';
import type { Exec } from '../../sdk/browser.ts';
import { onExecs } from './changes.ts';
import { boxrun } from './client.ts';

const pageRows = 100;
/** Newest ones that are kept while they come; older ones can be loaded again. */
const keptMax = 2_000;

export interface BoxExecs {
  /** Null while nothing is known. */
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
    const ended = new AbortController();
    const list = async (): Promise<void> => {
      try {
        const page = await boxrun.pageOfExecs(boxId, { limit: pageRows }, { signal: ended.signal });
        setExecs((known) => merge(page.rows, known ?? []));
        setCursor(page.nextCursor);
        setError(null);
      } catch (problem) {
        if (!ended.signal.aborted) setError(problem);
      }
    };
    setExecs(null);
    const stop = onExecs(boxId, (exec) => {
      if (exec === 'missed') void list();
      else setExecs((known) => merge([exec], known ?? []).slice(0, keptMax));
    });
    void list();
    return () => {
      stop();
      ended.abort();
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

/** By id, newest first. A command that has ended does not run again, whatever a late answer says. */
export function merge(rows: readonly Exec[], known: readonly Exec[]): Exec[] {
  const all = new Map(known.map((exec) => [exec.id, exec]));
  for (const row of rows) {
    const before = all.get(row.id);
    if (before === undefined || before.status === 'running') all.set(row.id, row);
  }
  return [...all.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
}
