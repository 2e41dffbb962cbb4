// The tab `details` of a box: all its fields as a list.
// CPUs and memory are what the box reserves, and, while it runs, what it uses now.
import type { ComponentChildren } from 'preact';
import type { Box, BoxUsage } from '../../sdk/browser.ts';
import { useStore } from '../live/store.ts';
import { usage } from '../live/usage.ts';
import { formatCpus, formatMemory, formatTime } from './format.ts';

export function BoxDetails({ box }: { readonly box: Box }) {
  const pairs = (values: Readonly<Record<string, string>> | null): ComponentChildren => {
    const entries = Object.entries(values ?? {});
    return entries.length === 0 ? (
      'none'
    ) : (
      <ul class="plain-list">
        {entries.map(([key, value]) => (
          <li key={key}>
            <code>
              {key}={value}
            </code>
          </li>
        ))}
      </ul>
    );
  };
  const used = useStore(usage.boxes)[box.id];
  const cpuUsed = used?.cpu_used ?? null;
  const cpuLimit = box.cpu_limit ?? null;
  const rows: readonly (readonly [string, ComponentChildren])[] = [
    ['Id', <code key="id">{box.id}</code>],
    ['Image', box.image],
    [
      'CPUs',
      [
        String(box.cpu),
        ...(cpuLimit === null ? [] : [`at most ${formatCpus(cpuLimit)}`]),
        ...(cpuUsed === null ? [] : [`${formatCpus(cpuUsed)} used`]),
      ].join(', '),
    ],
    [
      'Memory',
      `${formatMemory(box.memory_mb)}${used === undefined ? '' : `, ${formatMemory(Math.ceil(used.memory_used_mb))} used`}`,
    ],
    ['Disk', `${box.disk_size_gb} GB`],
    ['Network', box.network ? 'yes' : 'no'],
    ...(used?.agent === undefined ? [] : [['Commands start', wayOf(used.agent)] as const]),
    ['Grace at a stop', `${box.stop_grace_s ?? 5} s`],
    ['Directory', <code key="workdir">{box.workdir}</code>],
    ['Created', formatTime(box.created_at)],
    ['Started', box.started_at === null ? 'never' : formatTime(box.started_at)],
    ['Stopped', box.stopped_at === null ? 'never' : formatTime(box.stopped_at)],
    ['Labels', pairs(box.labels)],
    ['Environment', pairs(box.env)],
    ['Volumes', volumesOf(box)],
  ];
  return (
    <dl class="details">
      {rows.map(([title, value]) => (
        <div key={title}>
          <dt>{title}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

const reasons = {
  off: 'switched off',
  host: 'not used on this kind of host',
  earlier_version: 'the box was started by an earlier version',
  not_started: 'it did not start',
} as const;

function wayOf({ way, reason }: NonNullable<BoxUsage['agent']>): string {
  if (way !== 'none') return `by the agent, over ${way === 'vsock' ? 'vsock' : 'a socket'}`;
  return `without the agent${reason === null ? '' : ` (${reasons[reason]})`}`;
}

function volumesOf({ volumes }: Box): ComponentChildren {
  if (volumes === null || volumes.length === 0) return 'none';
  return (
    <ul class="plain-list">
      {volumes.map((volume) => (
        <li key={volume.guest_path}>
          <code>{volume.host_path}</code> at <code>{volume.guest_path}</code>
          {volume.readonly ? ', read-only' : ''}
        </li>
      ))}
    </ul>
  );
}
