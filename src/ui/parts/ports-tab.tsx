// The tab `ports` of a box: the TCP ports at which its processes listen, asked for every two seconds while the tab is
// open. A button opens a port in a window of its own, by a one-time link.
import type { Box, BoxPort } from '../../sdk/browser.ts';
import { boxrun } from '../live/client.ts';
import { showError } from '../live/notices.ts';
import { Button, EmptyNote, ErrorNote, LoadingNote } from './basics.tsx';
import { usePolled } from './polled.ts';

const askPorts = (box: string, signal: AbortSignal) => boxrun.ports(box).list({ signal });

export function PortsTab({ box }: { readonly box: Box }) {
  const isRunning = box.status === 'running';
  const { answer: ports, error } = usePolled(box.id, isRunning, askPorts);
  if (!isRunning) return <EmptyNote title="The box does not run">Start it to see its ports.</EmptyNote>;
  if (error !== null) return <ErrorNote error={error} />;
  if (ports === null) return <LoadingNote what="ports" />;
  if (ports.length === 0) return <EmptyNote title="No ports">No process of this box listens at a TCP port.</EmptyNote>;
  return (
    <table class="execs">
      <caption class="unseen">Ports</caption>
      <thead>
        <tr>
          <th scope="col">Process</th>
          <th scope="col" class="number age">
            Port
          </th>
          <th scope="col" class="narrow">
            Address
          </th>
          <th scope="col" class="number age">
            Pid
          </th>
          <th scope="col" class="act">
            <span class="unseen">Actions</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {ports.map((port) => (
          <PortRow key={`${port.port} ${port.address}`} box={box.id} port={port} />
        ))}
      </tbody>
    </table>
  );
}

function PortRow({
  box,
  port: { port, address, pid, command, url },
}: {
  readonly box: string;
  readonly port: BoxPort;
}) {
  const open = async () => {
    const link = await boxrun.ports(box).link(port);
    window.open(link.url, '_blank', 'noopener');
  };
  return (
    <tr>
      <th scope="row" title={command ?? undefined}>
        <span class="mono">{command ?? 'unknown'}</span>
      </th>
      <td class="number age">{port}</td>
      <td class="narrow">{address}</td>
      <td class="number age">{pid ?? ''}</td>
      <td class="act">
        {url !== null && (
          <Button
            label={`Open port ${port}`}
            onClick={() => {
              open().catch((error: unknown) => {
                showError('Open', error);
              });
            }}
          >
            Open
          </Button>
        )}
      </td>
    </tr>
  );
}
