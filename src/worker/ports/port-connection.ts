// One connection to a port of the box: a command of the agent's program in the box, whose input and output are the
// bytes of the connection. Both directions end by themselves. If the client or the box breaks off, the other side sees
// no clean end.
import { constants } from 'node:os';
import { settledWithin, withDeadline } from '../../shared/waiting/clock.ts';
import { drained } from '../../shared/waiting/drained.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { newId } from '../../shared/ids.ts';
import type { ByteStream } from '../../shared/ipc/stream.ts';
import { limits } from '../../shared/limits.ts';
import { agentVersion } from '../agent/frames.ts';
import type { Driver, ExecHandle } from '../drivers/driver-contract.ts';

export interface PortConnection {
  /** Null: the loopback addresses of the box. */
  readonly host: string | null;
  readonly port: number;
  readonly stream: ByteStream;
  readonly onStart: (handle: ExecHandle) => void;
  readonly kill: (handle: ExecHandle) => Promise<void>;
}

/** Milliseconds for the connection to stand. Then it fails. */
const connectMs = 10_000;
/** The exit code of the program if it does not know the command, because it is of another version. */
const otherVersionExit = 2;
const versionHint = 'stop and start the box; a micro-VM needs its agent, so BOXRUN_AGENT must not be off';

/**
 * Makes the connection, reports `connected`, and carries its bytes until both directions have ended.
 * @throws PORT_NOT_OPEN if no process listens there, VALIDATION_ERROR if the host is no address of the box, TIMEOUT,
 *   RUNTIME_ERROR if the box cannot make connections, or the connection broke; UNAVAILABLE if the client has gone
 */
export async function carryPort(
  driver: Pick<Driver, 'exec' | 'agentPath' | 'outputIsExact'>,
  { host, port, stream, onStart, kill }: PortConnection,
): Promise<void> {
  if (!driver.outputIsExact) throw noAgent();
  const handle = await driver.exec({
    execId: newId('exec'),
    cmd: [driver.agentPath, 'connect', String(agentVersion), host ?? 'localhost', String(port)],
    env: {},
    workdir: '/',
    user: '0',
    tty: null,
    stdin: true,
  });
  onStart(handle);
  handle.stdin?.on('error', () => undefined); // The end of the output reports it.
  const announced = announcement(handle);
  let isClean = false;
  try {
    if (handle.isTextOnly === true) throw noAgent();
    const pieces = handle.stdout.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer, undefined>;
    const first = await withDeadline(pieces.next(), connectMs, `connecting to port ${port} of the box`);
    const rest = await checkedAnswer(handle, first.done === true ? null : first.value, { host, port });
    await stream.control({ type: 'connected' });
    const output = sendOutput(pieces, rest, stream, announced);
    const gone = receiveInput(handle, stream).then(() => stream.untilClosed());
    for (const each of [output, gone]) each.catch(() => undefined); // The other one may end first.
    await Promise.race([output, gone.then(refuseGone)]);
    await Promise.race([handle.exit, gone]);
    isClean = true;
  } finally {
    handle.stdin?.destroy();
    handle.stdout.resume();
    // After a clean end the program ends by itself.
    if (!(await settledWithin(handle.exit, isClean ? limits.exitDrainMs : 0))) await kill(handle);
    handle.stdout.destroy();
  }
}

function noAgent(): BoxRunError {
  return new BoxRunError('RUNTIME_ERROR', 'connections to ports need the agent of the box, which does not run', {
    hint: versionHint,
  });
}

/** Resolves with true when the program announces a clean end, and with false when it ends without one. */
function announcement({ stderr, exit }: ExecHandle): Promise<boolean> {
  return new Promise((resolve) => {
    stderr.on('data', (piece: Buffer) => {
      if (piece.includes('e')) resolve(true);
    });
    stderr.on('error', () => undefined);
    stderr.once('close', () => {
      resolve(false);
    });
    // Children may hold the pipe in theory; this program has none.
    void exit.then(() =>
      setTimeout(() => {
        resolve(false);
      }, limits.exitDrainMs).unref(),
    );
  });
}

/** Checks the first byte of the program, and returns the bytes behind it. */
async function checkedAnswer(
  { exit }: ExecHandle,
  answer: Buffer | null,
  { host, port }: { readonly host: string | null; readonly port: number },
): Promise<Buffer> {
  const errno = answer?.[0];
  if (answer !== null && errno === 0) return answer.subarray(1);
  if (errno === undefined) {
    const how = await withDeadline(exit, limits.commandEndReportMs, 'the end of the connection').catch(() => null);
    if (how !== null && 'lost' in how) throw new BoxRunError('RUNTIME_ERROR', how.lost);
    const cannot = how !== null && [otherVersionExit, 126, 127].includes(how.exitCode);
    throw new BoxRunError(
      'RUNTIME_ERROR',
      cannot
        ? 'the box was started without an agent, or by another version of BoxRun, and cannot make connections'
        : 'the box ended the connection before it stood',
      cannot ? { hint: versionHint } : {},
    );
  }
  const place = host === null ? `port ${port}` : `${host}, port ${port}`;
  const { ECONNREFUSED, EADDRNOTAVAIL, EINVAL } = constants.errno;
  if (errno === ECONNREFUSED) {
    throw new BoxRunError('PORT_NOT_OPEN', `no process of the box listens at ${place}`, {
      hint: 'GET /v1/boxes/{box}/ports?port=N&wait=SECONDS waits until a process listens',
    });
  }
  if (errno === EADDRNOTAVAIL || errno === EINVAL)
    throw new BoxRunError('VALIDATION_ERROR', `'${host ?? ''}' is no address of the box`, {
      hint: 'leave the host out, or give an address of one of the interfaces of the box',
    });
  throw new BoxRunError('RUNTIME_ERROR', `the connection to ${place} of the box failed with error ${errno}`);
}

/** Sends what the connection brings. @throws RUNTIME_ERROR if it breaks */
async function sendOutput(
  pieces: AsyncIterator<Buffer, undefined>,
  first: Buffer,
  stream: ByteStream,
  announced: Promise<boolean>,
): Promise<void> {
  if (first.length > 0) await stream.send(first);
  for (let item = await pieces.next(); item.done !== true; item = await pieces.next()) await stream.send(item.value);
  if (!(await announced)) throw new BoxRunError('RUNTIME_ERROR', 'the connection broke in the box');
  await stream.end();
}

/** Writes the client's bytes into the connection. The client waits while the process in the box does not read. */
async function receiveInput({ stdin, exit }: ExecHandle, stream: ByteStream): Promise<void> {
  if (stdin === null) return;
  const over = new AbortController();
  void exit.then(() => {
    over.abort();
  });
  for (let item = await stream.next(); item !== null; item = await stream.next()) {
    if (!('bytes' in item)) continue;
    const { bytes } = item;
    if (!stdin.writable) continue;
    if (!stdin.write(bytes)) await drained(stdin, over.signal);
  }
  stdin.end();
}

function refuseGone(): never {
  throw new BoxRunError('UNAVAILABLE', 'the client has gone');
}
