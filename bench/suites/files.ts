// Measures files of a box: a large upload and a large download against tar through the OCI runtime in the same box, a
// list of 10,000 files against `ls -l` in the box, and one stat against one command.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BoxRun } from '../../src/sdk/index.ts';
import { boxHome } from '../../src/shared/settings/state-dir.ts';
import { boxPaths } from '../../src/worker/drivers/container/paths.ts';
import { tryRuntime } from '../../src/worker/drivers/container/host/host-probe.ts';
import { chooseRuntime } from '../../src/worker/drivers/container/host/runtime.ts';
import {
  compare,
  latency,
  ratioAtLeast,
  type Context,
  type Measure,
  type Round,
  type Suite,
} from '../support/measure.ts';
import { createRawExec } from '../support/raw-exec.ts';
import { smallBox, withServer, type BenchServer } from '../support/server.ts';

const filesListed = 10_000;
const mebibyte = 1024 * 1024;

export const files: Suite = {
  name: 'files',
  async run(context) {
    const directory = mkdtempSync(join(tmpdir(), 'boxrun-bench-'));
    try {
      return await withServer(context, { args: ['--workers', '0'] }, (server) => measure(context, server, directory));
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
};

async function measure(context: Context, server: BenchServer, directory: string): Promise<Measure[]> {
  const { id } = await server.createBox({ ...smallBox, memory_mb: 512, disk_size_gb: 8 });
  const client = new BoxRun({ socketPath: server.socketPath });
  try {
    const box = { client, id, directory, sendTar: await createTar(server, id, directory) };
    return [...(await largeFiles(context, box)), await list(context, server, box), await stat(context, box)];
  } finally {
    await client.close();
  }
}

interface MeasuredBox {
  readonly client: BoxRun;
  readonly id: string;
  readonly directory: string;
  /** Sends the local file `large` to /raw of the box, or the other way. Resolves with the seconds. */
  readonly sendTar: (direction: 'up' | 'down') => Promise<number>;
}

async function largeFiles(context: Context, { client, id, directory, sendTar }: MeasuredBox): Promise<Measure[]> {
  const mebibytes = context.isShort ? 256 : 1024;
  const local = join(directory, 'large');
  const block = createHash('sha512').update('boxrun').digest();
  writeFileSync(local, Buffer.alloc(mebibytes * mebibyte, block));
  const perSecond = (seconds: number): Round => ({ figure: mebibytes / seconds });
  const remove = (path: string) =>
    client
      .files(id)
      .remove(path, { recursive: true })
      .catch(() => undefined);
  const rounds = context.isShort ? 2 : 4;
  const goal = ratioAtLeast(0.6);
  const upload = await compare({
    ...({ name: 'files/upload', unit: 'MiB/s', better: 'more', rounds, goal } as const),
    async ours() {
      await remove('/ours');
      return perSecond(
        await seconds(() => client.upload(id, createReadStream(local, { highWaterMark: 262_144 }), '/ours/large')),
      );
    },
    async reference() {
      await remove('/raw');
      return perSecond(await sendTar('up'));
    },
  });
  const download = await compare({
    ...({ name: 'files/download', unit: 'MiB/s', better: 'more', rounds, goal } as const),
    ours: async () =>
      perSecond(await seconds(async () => (await client.download(id, '/ours/large')).saveTo(join(directory, 'ours')))),
    reference: async () => perSecond(await sendTar('down')),
  });
  return [upload, download];
}

async function createTar({ stateDir }: BenchServer, boxId: string, cwd: string): Promise<MeasuredBox['sendTar']> {
  const runtime = await chooseRuntime((candidate) => tryRuntime(candidate, tmpdir()));
  const exec = `${runtime.path} --root ${boxPaths(boxHome(stateDir, boxId)).runtimeRoot} exec ${boxId} sh -c`;
  const lines = {
    up: `tar -cf - large | ${exec} 'mkdir -p /raw; tar -xf - -C /raw'`,
    down: `mkdir -p down; ${exec} 'tar -cf - -C /raw large' | tar -xf - -C down`,
  };
  return (direction) => seconds(() => promisify(execFile)('sh', ['-c', lines[direction]], { cwd }));
}

async function list(context: Context, server: BenchServer, { client, id }: MeasuredBox): Promise<Measure> {
  const rawExec = await createRawExec({ boxId: id, instanceId: server.instanceId, stateDir: server.stateDir });
  await client.exec(id, ['sh', '-c', `mkdir /many; cd /many; seq 1 ${filesListed} | sed s/^/file-/ | xargs touch`]);
  return compare({
    ...({ name: 'files/list', unit: 'ms', better: 'less', rounds: context.isShort ? 5 : 15 } as const),
    goal: ratioAtLeast(0.5),
    async ours() {
      const figure = 1000 * (await seconds(() => client.files(id).list('/many')));
      return { figure };
    },
    async reference() {
      const figure = 1000 * (await seconds(() => rawExec(['ls', '-l', '/many'], () => undefined)));
      return { figure };
    },
  });
}

async function stat(context: Context, { client, id }: MeasuredBox): Promise<Measure> {
  const count = context.isShort ? 50 : 200;
  return compare({
    ...({ name: 'files/stat', unit: 'ms', better: 'less', rounds: 5 } as const),
    ours: () => latency(count, async () => void (await client.files(id).stat('/etc/hosts'))),
    reference: () => latency(count, async () => void (await client.exec(id, ['true']))),
    goal: ({ ours, reference }) => ({
      text: 'at most 2 ms more than a command',
      met: reference !== null && ours <= reference + 2,
    }),
  });
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return (performance.now() - begin) / 1000;
}
