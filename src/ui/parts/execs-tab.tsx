// The tab `commands` of a box: starts a command, lists all commands with their state, and cancels a command.
// The output of a command has a page of its own.
import { useState } from 'preact/hooks';
import type { Box, Exec } from '../../sdk/browser.ts';
import { useBoxExecs } from '../live/box-execs.ts';
import { boxrun } from '../live/client.ts';
import { showError } from '../live/notices.ts';
import { goTo, hrefOf } from '../router.ts';
import { Button, EmptyNote, ErrorNote, LoadingNote, Status } from './basics.tsx';
import { formatAge, formatCommand, formatSpan, formatTime, parseCommand } from './format.ts';
import { useNow } from './use-now.ts';

export function ExecsTab({ box }: { readonly box: Box }) {
  const { execs, error, hasOlder, loadOlder } = useBoxExecs(box.id);
  const now = useNow();
  return (
    <>
      <StartCommand box={box} />
      {error === null ? null : <ErrorNote error={error} />}
      {execs === null && error === null ? <LoadingNote what="commands" /> : null}
      {execs?.length === 0 ? (
        <EmptyNote title="No commands yet">
          <p>Start one above. Its output is kept until the box is removed, or for the time that the server sets.</p>
        </EmptyNote>
      ) : null}
      {execs !== null && execs.length > 0 ? <ExecTable execs={execs} now={now} /> : null}
      {hasOlder ? (
        <p class="more-rows">
          <Button onClick={loadOlder}>Show older commands</Button>
        </p>
      ) : null}
    </>
  );
}

function StartCommand({ box }: { readonly box: Box }) {
  const [line, setLine] = useState('');
  const [inShell, setInShell] = useState(true);
  const [error, setError] = useState<unknown>(null);
  const [isStarting, setStarting] = useState(false);

  async function start(): Promise<void> {
    setStarting(true);
    setError(null);
    try {
      const exec = await boxrun.startExec(box.id, inShell ? ['sh', '-c', line] : parseCommand(line));
      setLine('');
      goTo({ view: 'exec', box: box.id, exec: exec.id });
    } catch (problem) {
      setError(problem);
    } finally {
      setStarting(false);
    }
  }

  const isRunning = box.status === 'running';
  return (
    <form
      class="toolbar"
      onSubmit={(event) => {
        event.preventDefault();
        if (line.trim() !== '') void start();
      }}
    >
      <input
        class="grow mono"
        aria-label="Command"
        placeholder={isRunning ? 'Command, such as ls -l /' : 'The box does not run'}
        spellcheck={false}
        autocomplete="off"
        value={line}
        disabled={!isRunning}
        onInput={(event) => {
          setLine(event.currentTarget.value);
        }}
      />
      <label class="check">
        <input
          type="checkbox"
          checked={inShell}
          onChange={(event) => {
            setInShell(event.currentTarget.checked);
          }}
        />{' '}
        in a shell
      </label>
      <Button type="submit" kind="primary" disabled={!isRunning || isStarting || line.trim() === ''}>
        Run
      </Button>
      {error === null ? null : <ErrorNote error={error} />}
    </form>
  );
}

function ExecTable({ execs, now }: { readonly execs: readonly Exec[]; readonly now: number }) {
  return (
    <table class="execs">
      <caption class="unseen">Commands</caption>
      <thead>
        <tr>
          <th scope="col">Command</th>
          <th scope="col" class="narrow">
            Status
          </th>
          <th scope="col" class="number wide">
            Exit code
          </th>
          <th scope="col" class="number age">
            Took
          </th>
          <th scope="col" class="number wide">
            Age
          </th>
          <th scope="col" class="act">
            <span class="unseen">Actions</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {execs.map((exec) => (
          <tr key={exec.id}>
            <th scope="row">
              <a class="mono" href={hrefOf({ view: 'exec', box: exec.box_id, exec: exec.id })}>
                {formatCommand(exec.cmd)}
              </a>
            </th>
            <td class="narrow">
              <Status status={exec.status} />
            </td>
            <td class="number wide">{exec.exit_code ?? ''}</td>
            <td class="number age">{durationOf(exec, now)}</td>
            <td class="number wide" title={formatTime(exec.created_at)}>
              {formatAge(exec.created_at, now)}
            </td>
            <td class="act">{exec.status === 'running' ? <CancelButton exec={exec} /> : null}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

export function CancelButton({ exec }: { readonly exec: Exec }) {
  const [isCanceling, setCanceling] = useState(false);
  const cancel = (): void => {
    setCanceling(true);
    boxrun
      .cancelExec(exec.box_id, exec.id)
      .catch((error: unknown) => {
        showError('Cancel', error);
      })
      .finally(() => {
        setCanceling(false);
      });
  };
  return (
    <Button disabled={isCanceling} label={`Cancel ${formatCommand(exec.cmd).slice(0, 60)}`} onClick={cancel}>
      Cancel
    </Button>
  );
}

export function durationOf({ created_at, finished_at }: Exec, now: number): string {
  if (finished_at === null) return formatAge(created_at, now);
  return formatSpan(Date.parse(finished_at) - Date.parse(created_at));
}
