// The page of one command: its state and its output, while it runs or afterwards. `Esc` goes back to the box.
// It reads the output from the server only as long as the page is shown.
import { useEffect, useState } from 'preact/hooks';
import type { Exec } from '../../sdk/browser.ts';
import { boxTitle } from '../live/box-actions.ts';
import { changes, onExecs } from '../live/changes.ts';
import { boxrun, isCode } from '../live/client.ts';
import { useKeys } from '../live/keys.ts';
import { showError } from '../live/notices.ts';
import { useStore } from '../live/store.ts';
import { useExecOutput } from '../output/exec-output.ts';
import { OutputView } from '../output/output-view.tsx';
import { CancelButton, durationOf } from '../parts/execs-tab.tsx';
import { EmptyNote, ErrorNote, LoadingNote, Status } from '../parts/basics.tsx';
import { formatBytes, formatCommand, formatSpan } from '../parts/format.ts';
import { saveFile } from '../parts/save-file.ts';
import { useNow } from '../parts/use-now.ts';
import { goTo, hrefOf } from '../router.ts';

export function ExecPage({ boxId, execId }: { readonly boxId: string; readonly execId: string }) {
  const { exec, error } = useExec(boxId, execId);
  const output = useExecOutput(boxId, execId);
  const box = useStore(changes.boxes).get(boxId);
  const now = useNow();
  useKeys({
    Escape: () => {
      goTo({ view: 'box', box: boxId, tab: 'commands' });
    },
  });

  const download = (): void => {
    collectOutput(boxId, execId).then(
      (blob) => {
        saveFile(blob, `${execId}.log`);
      },
      (problem: unknown) => {
        showError('Download', problem);
      },
    );
  };
  const isMissing = isCode(error, 'BOX_NOT_FOUND') || isCode(error, 'EXEC_NOT_FOUND');
  return (
    <main id="main" class="exec-page">
      <header class="page-head">
        <p class="crumbs">
          <a href={hrefOf({ view: 'boxes' })}>Boxes</a> /{' '}
          <a href={hrefOf({ view: 'box', box: boxId, tab: 'commands' })}>{box === undefined ? boxId : boxTitle(box)}</a>
        </p>
        <div class="head-line">
          <h1 class="mono">{exec === null ? execId : formatCommand(exec.cmd)}</h1>
          {exec === null ? null : (
            <>
              <Status status={exec.status} />
              <span class="facts">
                {exec.exit_code === null ? '' : `exit code ${exec.exit_code}, `}
                {durationOf(exec, now)}
                {usageOf(exec)}
              </span>
              <span class="grow" />
              {exec.status === 'running' ? <CancelButton exec={exec} /> : null}
            </>
          )}
        </div>
        {exec === null || exec.error_message === null ? null : <p class="note error">{exec.error_message}</p>}
      </header>
      {isMissing ? (
        <EmptyNote title="This command is gone">
          <p>It was removed, with its box or after the server's retention time, or the link is wrong.</p>
        </EmptyNote>
      ) : null}
      {!isMissing && error !== null ? <ErrorNote error={error} /> : null}
      {!isMissing && output.error !== null && error === null ? <ErrorNote error={output.error} /> : null}
      {exec === null && error === null ? <LoadingNote what="the command" /> : null}
      {exec === null || isMissing ? null : <OutputView output={output} onDownload={download} />}
      {output.isEnded && output.lines.count === 0 ? <p class="note">The command wrote no output.</p> : null}
    </main>
  );
}

/** What the command used, as far as it is known. */
function usageOf({ usage }: Exec): string {
  if (usage === undefined || usage === null) return '';
  const { cpu_seconds: cpu, peak_memory_bytes: peak, oom_kills: kills, throttled_seconds: throttled } = usage;
  return [
    cpu === null ? '' : `, CPU ${formatSpan(cpu * 1_000)}`,
    peak === null ? '' : `, peak ${formatBytes(peak)}`,
    kills === null || kills === 0 ? '' : `, ${kills} killed for lack of memory`,
    throttled === null || throttled < 0.001 ? '' : `, waited ${formatSpan(throttled * 1_000)} for its CPU share`,
  ].join('');
}

function useExec(boxId: string, execId: string): { readonly exec: Exec | null; readonly error: unknown } {
  const [exec, setExec] = useState<Exec | null>(null);
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    const unmounted = new AbortController();
    const read = (): void => {
      boxrun.getExec(boxId, execId, { signal: unmounted.signal }).then(
        (found) => {
          setExec(found);
          setError(null);
        },
        (problem: unknown) => {
          if (!unmounted.signal.aborted) setError(problem);
        },
      );
    };
    const closeExecs = onExecs(boxId, (changed) => {
      if (changed === 'missed') read();
      else if (changed.id === execId) setExec(changed);
    });
    const closeBoxes = changes.onEvent((event) => {
      if (event.type === 'box.removed' && event.box.id === boxId) read();
    });
    setExec(null);
    read();
    return () => {
      closeExecs();
      closeBoxes();
      unmounted.abort();
    };
  }, [boxId, execId]);
  return { exec, error };
}

/** All output that exists now, byte for byte. */
async function collectOutput(boxId: string, execId: string): Promise<Blob> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  for await (const event of boxrun.execEvents({ id: execId, box_id: boxId }, { follow: false })) {
    if (event.type === 'log') parts.push(new Uint8Array(event.bytes));
  }
  return new Blob(parts, { type: 'text/plain' });
}
