// Starts `boxrun serve` as a child process, and waits until it is ready. Tests and benchmarks start servers with this
// file. A few tests of `serve` itself spawn it themselves (contract/cli, security/http, system/process-one).
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { eventually } from '../runs/eventually.ts';

/** The command line in dist/, or the program in BOXRUN_TEST_BUNDLE. */
export const cliBundle = process.env['BOXRUN_TEST_BUNDLE'] ?? join(import.meta.dirname, '../../../dist/cli.cjs');

export interface Serving {
  readonly keeper: ChildProcess;
  /** The TCP port that the server has printed. Null if it listens only on its socket. */
  readonly port: number | null;
  /** Returns everything that the server has printed. */
  said(): string;
  /** Ends the server in order, with SIGTERM. Returns its exit code, or null if it had ended before. */
  end(): Promise<number | null>;
}

export interface ServingOptions {
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** The file of the command line. The default is `cliBundle`. */
  readonly program?: string | undefined;
  /** A program and its arguments. The program changes what the server inherits, and then becomes the server (exec). */
  readonly launcher?: readonly string[] | undefined;
  readonly readyMs?: number | undefined;
  /** Tells whether the server is ready. The default waits for the message of the server. */
  readonly isReady?: (() => Promise<boolean>) | undefined;
}

/** @throws with the output of the server when it ends or is not ready within `readyMs` */
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
