// Measures how long a command of `boxrun` takes, against a Node that does nothing. The first calls of a user compile
// the command line; they do not count.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { compare, ratioAtLeast, type Context, type Measure, type Side, type Suite } from '../support/measure.ts';
import { places } from '../support/places.ts';
import { withServer, type BenchServer } from '../support/server.ts';

/** `timesMax`: each command may take at most this many times as long as a Node that does nothing. */
const commands = [
  { name: 'version', args: ['--version'], timesMax: 1.3 },
  { name: 'help', args: ['exec', '--help'], timesMax: 1.3 },
  { name: 'completion', args: ['__complete', '=st'], timesMax: 1.3 },
  { name: 'exec', args: ['exec', 'web', '--', 'true'], timesMax: 1.6 },
  { name: 'ls', args: ['ls'], timesMax: 1.6 },
] as const;

export const cli: Suite = {
  name: 'cli',
  run: (context) =>
    withServer(context, {}, async (server) => {
      await server.createBox({ name: 'web' });
      const measures: Measure[] = [];
      for (const command of commands) measures.push(await measureCommand(context, server, command));
      return measures;
    }),
};

function measureCommand(
  { isShort }: Context,
  { stateDir }: BenchServer,
  { name, args, timesMax }: (typeof commands)[number],
): Promise<Measure> {
  const env: NodeJS.ProcessEnv = { ...process.env, HOME: stateDir, BOXRUN_STATE_DIR: stateDir };
  env['XDG_CACHE_HOME'] = join(stateDir, 'cache');
  // Node reads this file at each start. That would slow both sides down by the same time, and make the ratio better.
  delete env['NODE_EXTRA_CA_CERTS'];
  const calls = isShort ? 10 : 20;
  return compare({
    name: `cli/${name}`,
    unit: 'ms',
    better: 'less',
    rounds: isShort ? 5 : 10,
    ours: callsOf(calls, join(places.root, 'bin/boxrun'), args, env),
    reference: callsOf(calls, process.execPath, ['-e', '0'], env),
    goal: ratioAtLeast(Math.round(100 / timesMax) / 100),
  });
}

/** The mean time of one call, in milliseconds. */
function callsOf(calls: number, program: string, args: readonly string[], env: NodeJS.ProcessEnv): Side {
  return async () => {
    const from = performance.now();
    for (let call = 0; call < calls; call++) {
      const child = spawn(program, args, { env, stdio: ['ignore', 'ignore', 'inherit'] });
      const [exitCode] = (await once(child, 'exit')) as [number | null];
      if (exitCode !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${exitCode}`);
    }
    return { figure: (performance.now() - from) / calls };
  };
}
