// The tab `processes` of a box: the processes in it, asked for every two seconds while the tab is open.
// Each can be ended.
import type { Box, BoxProcess } from '../../sdk/browser.ts';
import { boxrun } from '../live/client.ts';
import { showError } from '../live/notices.ts';
import { hrefOf } from '../router.ts';
import { Button, EmptyNote, ErrorNote, LoadingNote } from './basics.tsx';
import { formatMemory, formatSpan } from './format.ts';
import { usePolled } from './polled.ts';

const askProcesses = (box: string, signal: AbortSignal) => boxrun.processes(box, { signal });

export function ProcessesTab({ box }: { readonly box: Box }) {
  const isRunning = box.status === 'running';
  const { answer: processes, error } = usePolled(box.id, isRunning, askProcesses);
  if (!isRunning) return <EmptyNote title="The box does not run">Start it to see its processes.</EmptyNote>;
  if (error !== null) return <ErrorNote error={error} />;
  if (processes === null) return <LoadingNote what="processes" />;
  if (processes.length === 0) return <EmptyNote title="No processes">No command runs in this box.</EmptyNote>;
  return (
    <table class="execs">
      <caption class="unseen">Processes</caption>
      <thead>
        <tr>
          <th scope="col">Command line</th>
          <th scope="col" class="number age">
            Pid
          </th>
          <th scope="col" class="narrow">
            User
          </th>
          <th scope="col" class="number age">
            State
          </th>
          <th scope="col" class="number wide">
            CPU time
          </th>
          <th scope="col" class="number age">
            Memory
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
        {processes.map((each) => (
          <ProcessRow key={each.pid} box={box.id} process={each} />
        ))}
      </tbody>
    </table>
  );
}

function ProcessRow({ box, process }: { readonly box: string; readonly process: BoxProcess }) {
  const exec = process.exec_id;
  return (
    <tr>
      <th scope="row" title={process.command}>
        {exec === null ? (
          <span class="mono">{process.command}</span>
        ) : (
          <a class="mono" href={hrefOf({ view: 'exec', box, exec })}>
            {process.command}
          </a>
        )}
      </th>
      <td class="number age">{process.pid}</td>
      <td class="narrow">{process.user}</td>
      <td class="number age">{process.state}</td>
      <td class="number wide">{formatSpan(process.cpu_seconds * 1_000)}</td>
      <td class="number age">{formatMemory(Math.ceil(process.memory_bytes / 2 ** 20))}</td>
      <td class="number wide">{formatSpan(process.age_seconds * 1_000)}</td>
      <td class="act">
        <Button
          onClick={() => {
            boxrun.signalProcess(box, process.pid, 'TERM').catch((error: unknown) => {
              showError('End', error);
            });
          }}
        >
          End
        </Button>
      </td>
    </tr>
  );
}
