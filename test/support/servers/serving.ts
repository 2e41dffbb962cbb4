// `boxrun serve` as a child of a test or a benchmark: started, and waited for until it is ready. All tests and
// benchmarks start servers here.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { eventually } from '../runs/eventually.ts';

/** The command line as the build left it, or the program that is under test instead. */
export const cliBundle = process.env['BOXRUN_TEST_BUNDLE'] ?? join(import.meta.dirname, '../../../dist/cli.cjs');

export interface Serving {
  readonly keeper: ChildProcess;
  /** The port that the server says it listens on; null where it listens on none. */
  readonly port: number | null;
  /** What it has printed so far. */
  said(): string;
  /** Ends it in order, with SIGTERM. Gives its exit code; null where it had ended before. */
  end(): Promise<number | null>;
}

export interface ServingOptions {
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** The file of the command line; `cliBundle` when absent. */
  readonly program?: string | undefined;
  /** A program with its arguments that becomes the server. It decides what the server inherits. */
  readonly launcher?: readonly string[] | undefined;
  readonly readyMs?: number | undefined;
  /** Tells that it is ready; what the server itself says when absent. */
  readonly isReady?: (() => Promise<boolean>) | undefined;
}

/** @throws with what the server said, when it ends or is not ready in time */
export async function startServing(options: ServingOptions): Promise<Serving> {
  const { args, env, program = cliBundle, launcher = [], readyMs = 30_000 } = options;
  const [file = '', ...words] = [...launcher, process.execPath, program, 'serve', ...args];
  const keeper = spawn(file, words, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [keeper.stdout, keeper.stderr]) stream.on('data', (piece: Buffer) => (said += piece.toString()));
  const hasEnded = () => keeper.exitCode !== null || keeper.signalCode !== null;
  const isReady = options.isReady ?? (async () => said.includes('BoxRun is ready'));
  await eventually(
    'the server is ready',
    () => {
      if (hasEnded()) throw new Error(`boxrun serve ended with ${keeper.exitCode ?? keeper.signalCode}: ${said}`);
      return isReady();
    },
    readyMs,
  );
  const port = /http:\/\/127\.0\.0\.1:(\d+)/.exec(said)?.[1];
  return {
    keeper,
    port: port === undefined ? null : Number(port),
    said: () => said,
    async end() {
      if (hasEnded()) return null;
      const exited = once(keeper, 'exit');
      keeper.kill('SIGTERM');
      await exited;
      return keeper.exitCode;
    },
  };
}
