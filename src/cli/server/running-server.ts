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
import { isClientOnly } from '../client-only.ts';
import { createWaitNotice, type WaitNotice } from '../render/waiting.ts';

type Address = ReturnType<typeof serverAddress>;

const loopback = new Set(['127.0.0.1', 'localhost', '::1']);
const connectTimeoutMs = 2_000;

/**
 * Calls `work` with a client of the server. Starts the server first, if it does not answer. The package `boxrun-client`
 * has no server to start.
 */
export async function withClient(work: (client: BoxRunClient) => Promise<number>): Promise<number> {
  if (isClientOnly) return withRunningServer(work);
  const config = loadConfig();
  const address = serverAddress(config);
  const notice = createWaitNotice(`waiting for an answer of ${describe(address)}`);
  try {
    if (!(await answers(address))) await startServer(config, address, notice);
  } finally {
    notice.end();
  }
  return useClient(address, work);
}

/** The same, but starts no server. @throws UNAVAILABLE if none answers */
export async function withRunningServer(work: (client: BoxRunClient) => Promise<number>): Promise<number> {
  const address = serverAddress(loadConfig());
  if (!(await answers(address))) {
    throw new BoxRunError('UNAVAILABLE', `no server answers at ${describe(address)}`, {
      hint: isClientOnly ? 'set BOXRUN_SOCKET, or BOXRUN_HOST and BOXRUN_PORT (and BOXRUN_TOKEN)' : 'boxrun serve',
    });
  }
  return useClient(address, work);
}

async function useClient(address: Address, work: (client: BoxRunClient) => Promise<number>): Promise<number> {
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
  return describe(serverAddress(loadConfig()));
}

function describe(address: Address): string {
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
 * limits.autoStartMs, or if another server has the state directory and does not listen at `address`
 */
async function startServer(config: Config, address: Address, notice: WaitNotice): Promise<void> {
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
  notice.say('starting the server');
  const deadline = Date.now() + limits.autoStartMs;
  const { supervisorSocket } = statePaths(config.stateDir);
  let otherIsUpSince = Number.POSITIVE_INFINITY;
  while (!(await answers(address))) {
    const output = readFileSync(logFile).subarray(logStart).toString('utf8').trim();
    const isTaken = hasEnded && output.includes('uses the state directory');
    if (hasEnded && !isTaken) {
      throw new BoxRunError('UNAVAILABLE', `the server could not be started:\n${output}`, { hint: 'boxrun doctor' });
    }
    if (isTaken) {
      // Another command may have started a server at the same moment. Then that server will answer here. But it may
      // also be a server that listens elsewhere.
      notice.say(`waiting for the other server of ${config.stateDir}`);
      if (await answers({ socketPath: supervisorSocket })) otherIsUpSince = Math.min(otherIsUpSince, Date.now());
      if (Date.now() - otherIsUpSince > limits.otherServerMs) throw elsewhere(config, address);
    }
    if (Date.now() > deadline) {
      throw new BoxRunError('UNAVAILABLE', `the server did not answer within ${limits.autoStartMs / 1000} s`, {
        hint: `its log is ${logFile}`,
      });
    }
    await sleep(25);
  }
}

function elsewhere({ stateDir }: Config, address: Address): BoxRunError {
  const message = `a server uses the state directory ${stateDir}, but it does not listen at ${describe(address)}`;
  return new BoxRunError('UNAVAILABLE', message, {
    hint: 'correct BOXRUN_SOCKET, or BOXRUN_HOST and BOXRUN_PORT; or: boxrun server restart',
  });
}
