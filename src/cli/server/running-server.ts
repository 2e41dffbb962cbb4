// The server that a command talks to: found by the settings, and started in the background when nobody answers.
// Loaded by the commands that need one; a server is started by the very file that runs now.
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

/** Calls `work` with a client of the running server, which is started first if need be. */
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

/** Where the server is, for people. */
export function describeAddress(): string {
  const address = serverAddress(loadConfig());
  return 'host' in address ? `http://${hostInUrl(address.host)}:${address.port}` : address.socketPath;
}

/** True when a server answers, without starting one. */
export async function isServerUp(): Promise<boolean> {
  return answers(serverAddress(loadConfig()));
}

function hostInUrl(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

function answers(address: Address): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = 'host' in address ? connect(address) : connect(address.socketPath);
    const done = (answered: boolean) => {
      socket.destroy();
      resolve(answered);
    };
    socket.setTimeout(connectTimeoutMs, () => {
      done(false);
    });
    socket.once('connect', () => {
      done(true);
    });
    socket.once('error', () => {
      done(false);
    });
  });
}

/**
 * Starts `boxrun serve` in the background and waits until it answers.
 * @throws UNAVAILABLE with what it said, when it ends early or is not up in time (limits.autoStartMs)
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
  let ended = false;
  child.once('exit', () => {
    ended = true;
  });
  child.once('error', () => {
    ended = true;
  });
  const progress = createProgressLine(process.stderr);
  progress.show('starting the server ...');
  try {
    const deadline = Date.now() + limits.autoStartMs;
    while (!(await answers(address))) {
      const said = readFileSync(logFile).subarray(logStart).toString('utf8').trim();
      // Another command has started a server at the same moment: that one is waited for.
      if (ended && !said.includes('uses the state directory')) {
        throw new BoxRunError('UNAVAILABLE', `the server could not be started:\n${said}`, {
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
