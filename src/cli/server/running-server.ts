// The server that a command talks to. The settings say where it is. If it does not answer, the command starts it in the
// background, from the same program file that runs now.
import { mkdirSync, openSync, closeSync, readFileSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { sleep } from '../../shared/waiting/clock.ts';
import {
  clientToken,
  loadConfig,
  serverAddress,
  serverEnvironment,
  type Config,
} from '../../shared/settings/config.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { BoxRun, type BoxRunClient } from '../../sdk/index.ts';
import { createProgressLine } from '../render/render.ts';

type Address = ReturnType<typeof serverAddress>;

const loopback = new Set(['127.0.0.1', 'localhost', '::1']);
const connectTimeoutMs = 2_000;

/** Calls `work` with a client of the server. Starts the server first, if it does not answer. */
export async function withClient(work: (client: BoxRunClient) => Promise<number>): Promise<number> {
  const config = loadConfig();
  const address = serverAddress(config);
  if (!(await answers(address))) await startServer(config, address);
  const token = clientToken();
  const client = new BoxRun(
    'host' in address
      ? { url: `http://${hostInUrl(address.host)}:${address.port}`, ...(token === null ? {} : { token }) }
      : address,
  );
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

/** Where the server is, as text for a person. */
export function describeAddress(): string {
  const address = serverAddress(loadConfig());
  return 'host' in address ? `http://${hostInUrl(address.host)}:${address.port}` : address.socketPath;
}

/** True if something accepts a connection at the server's address. Sends no request, and does not start a server. */
export async function isServerUp(): Promise<boolean> {
  return answers(serverAddress(loadConfig()));
}

function hostInUrl(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

/** True if something accepts a connection there. Sends no request. */
function answers(address: Address): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = 'host' in address ? connect(address) : connect(address.socketPath);
    const finish = (isAnswered: boolean) => {
      socket.destroy();
      resolve(isAnswered);
    };
    socket.setTimeout(connectTimeoutMs, () => {
      finish(false);
    });
    socket.once('connect', () => {
      finish(true);
    });
    socket.once('error', () => {
      finish(false);
    });
  });
}

/**
 * Starts `boxrun serve` in the background and waits until it answers.
 * @throws UNAVAILABLE if the server ends early (the message holds its output), or does not answer within
 * limits.autoStartMs
 */
async function startServer(config: Config, address: Address): Promise<void> {
  if ('host' in address && !loopback.has(address.host)) {
    throw new BoxRunError('UNAVAILABLE', `no server answers at ${address.host}:${address.port}`, {
      hint: 'start it there, or change BOXRUN_HOST and BOXRUN_PORT',
    });
  }
  const { logsDir } = statePaths(config.stateDir);
  mkdirSync(logsDir, { recursive: true, mode: 0o700 });
  const logFile = join(logsDir, 'serve.log');
  const log = openSync(logFile, 'a', 0o600);
  const logStart = statSync(logFile).size;
  const { spawn } = await import('node:child_process');
  const child = spawn(process.execPath, ['--no-warnings', process.argv[1] ?? '', 'serve'], {
    detached: true,
    stdio: ['ignore', log, log],
    cwd: '/',
    env: serverEnvironment(config),
  });
  closeSync(log);
  child.unref();
  let hasEnded = false;
  child.once('exit', () => {
    hasEnded = true;
  });
  child.once('error', () => {
    hasEnded = true;
  });
  const progress = createProgressLine(process.stderr);
  progress.show('starting the server ...');
  try {
    const deadline = Date.now() + limits.autoStartMs;
    while (!(await answers(address))) {
      const output = readFileSync(logFile).subarray(logStart).toString('utf8').trim();
      // If another command has started a server at the same moment, our server ends with this text. Then wait for the
      // other server.
      if (hasEnded && !output.includes('uses the state directory')) {
        throw new BoxRunError('UNAVAILABLE', `the server could not be started:\n${output}`, {
          hint: '`boxrun doctor` explains more',
        });
      }
      if (Date.now() > deadline) {
        throw new BoxRunError('UNAVAILABLE', `the server did not answer within ${limits.autoStartMs / 1000} s`, {
          hint: `its log is ${logFile}`,
        });
      }
      await sleep(25);
    }
  } finally {
    progress.clear();
  }
}
