// Tests many parallel boxes with many commands each, on a real server with the container driver. Every byte of output
// and every exit code is correct, and no mount, control group or worker is left.
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { collect, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { processesOf } from '../support/host/processes.ts';

const boxCount = 40;
const commandsPerBox = 8;
const linesPerStream = 400;
let server: CrashServer;

beforeAll(async () => {
  server = await startCrashServer({ args: ['--workers', '2'] });
});
afterAll(async () => {
  await server.close();
});

/** Prints different lines to both streams and ends with its own code. */
function command(box: number, index: number): string[] {
  const script = `i=0; while [ $i -lt ${linesPerStream} ]; do echo out-${box}-${index}-$i; echo err-${box}-${index}-$i >&2; i=$((i+1)); done; exit ${(box + index) % 7}`;
  return ['sh', '-c', script];
}

function expected(prefix: string, box: number, index: number): string {
  const lines = Array.from({ length: linesPerStream }, (_, line) => `${prefix}-${box}-${index}-${line}\n`);
  return createHash('sha256').update(lines.join('')).digest('hex');
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

/** Finds the mounts and control groups of these boxes. Other servers of this machine have boxes of their own. */
async function leftOf(boxIds: readonly string[]): Promise<{ mounts: string[]; cgroups: string[] }> {
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8'))
    .split('\n')
    .filter((line) => line.includes(server.stateDir));
  const entries = await readdir('/sys/fs/cgroup', { recursive: true }).catch(() => []);
  return { mounts, cgroups: entries.filter((entry) => boxIds.some((id) => entry.includes(id))) };
}

it(
  `a server runs ${boxCount} boxes with ${commandsPerBox} commands each at once, and every byte of output is correct`,
  { timeout: 240_000 },
  async () => {
    const { client } = server;
    const wrong: string[] = [];
    await Promise.all(
      Array.from({ length: boxCount }, async (_, boxIndex) => {
        const box = await client.create({ image: 'base', name: `many-${boxIndex}`, cpu: 1, memory_mb: 64 });
        await Promise.all(
          Array.from({ length: commandsPerBox }, async (_, index) => {
            const exec = await client.startExec(box.id, { cmd: command(boxIndex, index) });
            const { stdout, stderr, exit } = await collect(client, exec);
            if (sha256(stdout) !== expected('out', boxIndex, index)) wrong.push(`stdout of ${boxIndex}/${index}`);
            if (sha256(stderr) !== expected('err', boxIndex, index)) wrong.push(`stderr of ${boxIndex}/${index}`);
            if (exit.exitCode !== (boxIndex + index) % 7) wrong.push(`exit of ${boxIndex}/${index}: ${exit.exitCode}`);
          }),
        );
      }),
    );
    expect(wrong).toEqual([]);
    expect(await client.listBoxes('running')).toHaveLength(boxCount);
    const boxIds = (await client.listBoxes()).map(({ id }) => id);
    expect((await leftOf(boxIds)).cgroups.length).toBeGreaterThanOrEqual(boxCount);
    await Promise.all(boxIds.map((id) => client.removeBox(id, { force: true })));
    expect(await client.listBoxes()).toEqual([]);
    expect(await leftOf(boxIds)).toEqual({ mounts: [], cgroups: [] });
    const workers = (await processesOf(server.stateDir)).filter(
      ({ role, box }) => role === 'worker' && box !== 'spare',
    );
    expect(workers).toEqual([]);
  },
);
