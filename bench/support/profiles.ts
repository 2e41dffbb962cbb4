// Summarizes the CPU profiles of the processes of a server as a list of functions. The developer tools of a browser can
// open the files.
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

interface Profile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const shownPerProcess = 25;
const idle = new Set(['(idle)', '(program)', '(root)']);

/** Lists, for the eight busiest processes, the functions with the most own time, in milliseconds. */
export function profileReport(directory: string): string {
  const profiles = readdirSync(directory)
    .filter((name) => name.endsWith('.cpuprofile'))
    .map((name) => summary(join(directory, name)));
  return profiles
    .sort((a, b) => b.busyMs - a.busyMs)
    .slice(0, 8)
    .map(({ text }) => text)
    .join('\n\n');
}

function summary(path: string): { busyMs: number; text: string } {
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(path, 'utf8')) as Profile;
  const places = new Map(
    nodes.map(({ id, callFrame: { functionName, url, lineNumber } }) => [
      id,
      `${functionName || '(anonymous)'} ${url === '' ? '' : `${basename(url)}:${lineNumber + 1}`}`.trim(),
    ]),
  );
  const times = new Map<string, number>();
  samples.forEach((id, index) => {
    const place = places.get(id) ?? '?';
    times.set(place, (times.get(place) ?? 0) + (timeDeltas[index] ?? 0) / 1000);
  });
  const busy = [...times].filter(([place]) => !idle.has(place)).sort(([, a], [, b]) => b - a);
  const busyMs = busy.reduce((sum, [, ms]) => sum + ms, 0);
  const bundles = [
    ...new Set(
      nodes
        .map(({ callFrame }) => callFrame.url)
        .filter((url) => url.includes('/dist/'))
        .map((url) => basename(url)),
    ),
  ];
  const lines = busy.slice(0, shownPerProcess).map(([place, ms]) => `  ${ms.toFixed(0).padStart(7)} ms  ${place}`);
  return {
    busyMs,
    text: [
      `${bundles.join(', ') || basename(path)}: busy for ${busyMs.toFixed(0)} ms, native and garbage collection outside of it: ${(times.get('(program)') ?? 0).toFixed(0)} ms`,
      ...lines,
    ].join('\n'),
  };
}
