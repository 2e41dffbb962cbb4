// Measures boxes and commands on real micro-VMs. The reference is the bare binding of the engine in this process, with
// the same options. It needs a host with KVM, or the VM lab:
// node test/vm/lab/run.mjs --shell-script scripts/bench.mjs vm-exec vm-create
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureBaseImage } from '../../src/shared/images/base.ts';
import { statePaths } from '../../src/shared/settings/state-dir.ts';
import { engineOptions } from '../../src/worker/drivers/boxlite/box-options.ts';
import { openEngine, type EngineBox, type EngineRuntime } from '../../src/worker/drivers/boxlite/engine.ts';
import { prepareTools } from '../../src/worker/drivers/boxlite/home/host-files.ts';
import { runExec } from '../support/execs.ts';
import { compare, latency, ratioAtLeast, type Context, type Measure, type Suite } from '../support/measure.ts';
import { withServer, type BenchServer } from '../support/server.ts';

const vmBox = { cpu: 1, memory_mb: 256, disk_size_gb: 1 };
const execTimeoutS = 60;

/** The engine without BoxRun. */
interface BareEngine {
  create(): Promise<EngineBox>;
  /** Stops and removes the newest box. */
  remove(): Promise<void>;
}

interface VmSides {
  readonly server: BenchServer;
  readonly bare: BareEngine;
}

export const vmExec: Suite = {
  name: 'vm-exec',
  onlyByName: true,
  run: (context) =>
    withVms(context, async ({ server, bare }) => {
      const { id } = await server.createBox(vmBox);
      const box = await bare.create();
      const count = context.isShort ? 3 : 10;
      const measure = await compare({
        name: 'vm-exec',
        unit: 'ms',
        better: 'less',
        rounds: context.isShort ? 3 : 5,
        ours: () => latency(count, () => runExec(server.admin, id)),
        reference: () => latency(count, () => runBare(box)),
        goal: ratioAtLeast(0.9),
      });
      await bare.remove();
      return [measure];
    }),
};

export const vmCreate: Suite = {
  name: 'vm-create',
  onlyByName: true,
  run: (context) =>
    withVms(context, async ({ server, bare }) => [
      await compare({
        name: 'vm-create',
        unit: 'ms',
        better: 'less',
        rounds: context.isShort ? 2 : 5,
        async ours() {
          const round = await latency(1, async () => {
            await server.createBox({ ...vmBox, name: 'measured' });
          });
          await server.admin.request('DELETE', '/v1/boxes/measured?force=true');
          return round;
        },
        async reference() {
          const round = await latency(1, async () => {
            await bare.create();
          });
          await bare.remove();
          return round;
        },
        goal: ratioAtLeast(0.9),
      }),
    ]),
};

async function withVms(context: Context, use: (sides: VmSides) => Promise<Measure[]>): Promise<Measure[]> {
  const homeDir = mkdtempSync(join(tmpdir(), 'boxrun-bare-'));
  try {
    return await withServer(context, { driver: 'boxlite', args: ['--workers', '1'] }, async (server) => {
      const runtime = await openEngine({ homeDir: join(homeDir, 'home'), insecureRegistries: [], runtimeDir: null });
      return use({ server, bare: await createBareEngine(server, runtime) });
    });
  } finally {
    rmSync(homeDir, { recursive: true, force: true });
  }
}

async function createBareEngine({ stateDir }: BenchServer, runtime: EngineRuntime): Promise<BareEngine> {
  const { imagesDir } = statePaths(stateDir);
  const image = { kind: 'layout' as const, name: 'base', ...(await ensureBaseImage(imagesDir)) };
  const toolsDir = await prepareTools(imagesDir);
  let made = 0;
  let last: { readonly name: string; readonly box: EngineBox } | null = null;
  return {
    async create() {
      const name = `bare-${(made += 1)}`;
      const spec = {
        boxId: name,
        image,
        cpu: vmBox.cpu,
        memoryMb: vmBox.memory_mb,
        diskSizeGb: vmBox.disk_size_gb,
        network: false,
        workdir: '/',
        env: {},
        volumes: [],
      };
      const box = await runtime.create(engineOptions(spec, toolsDir), name);
      await box.start();
      await runBare(box); // BoxRun also answers only when the box accepts commands.
      last = { name, box };
      return box;
    },
    async remove() {
      if (last === null) return;
      await last.box.stop();
      await runtime.remove(last.name, true);
      last = null;
    },
  };
}

/** @throws when the command does not succeed */
async function runBare(box: EngineBox): Promise<void> {
  const exec = await box.exec('/bin/true', [], null, false, null, execTimeoutS);
  const [stdout, stderr] = await Promise.all([exec.stdout(), exec.stderr()]);
  await Promise.all(
    [stdout, stderr].map(async (stream) => {
      while ((await stream.next()) !== null); // Reads to the end.
    }),
  );
  const { exitCode } = await exec.wait();
  if (exitCode !== 0) throw new Error(`the reference ended with ${exitCode}`);
}
