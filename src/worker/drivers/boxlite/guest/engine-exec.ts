// The driver's handle of one command: streams of bytes, one exit, and the kill of the whole tree. The command ends with
// its leader, never with its streams, because children may hold those open.
// The engine has no back-pressure. In the VM, output passes a ring of 1 MiB. When the ring is full, the engine drops
// output and writes `[boxlite] stdout output dropped N bytes` into the stream. Output that is not read on the host
// waits in the engine's memory there, without bound.
import { Readable, Writable } from 'node:stream';
import { sleep, withDeadline } from '../../../../shared/waiting/clock.ts';
import { errorText } from '../../../../shared/errors.ts';
import { limits } from '../../../../shared/limits.ts';
import type { ExecExit, ExecHandle, ExecRequest } from '../../driver-contract.ts';
import { exitCodeOf } from './guest-command.ts';
import type { EngineExec } from '../engine.ts';
import { engineError } from '../engine-errors.ts';

interface PieceStream {
  next(): Promise<string | null>;
}

/** Pieces that arrive within this time are joined into one. */
const joinMs = 2;
const joinBytes = 64 * 1024;

/** The engine writes this into stderr when it loses its connection to the command. */
const attachError = 'Attach stream error: ';

export interface ExecDeps {
  readonly request: ExecRequest;
  readonly exec: EngineExec;
  readonly killTree: () => Promise<void>;
  readonly hasChildren: () => Promise<boolean>;
  /** Resolves with the reason when the VM has ended. */
  readonly engineEnd: Promise<string>;
  readonly isVmAlive: () => Promise<boolean>;
  /** Called when the leader has ended, or is lost. */
  readonly onExit: () => void;
}

export async function createExecHandle(deps: ExecDeps): Promise<ExecHandle> {
  const { request, exec } = deps;
  let lossText: string | null = null;
  const onLost = (text: string) => {
    lossText ??= text;
  };
  const [stdout, stderr, stdin] = await Promise.all([exec.stdout(), exec.stderr(), exec.stdin()]);
  const input = request.stdin ? createInput(stdin) : null;
  // A command without input reads the end of its input at once. The input of a terminal has to stay open.
  if (input === null && request.tty === null) void stdin.close().catch(() => undefined);
  const exit = waitForExit(deps, () => lossText).finally(deps.onExit);

  return {
    isTextOnly: true,
    stdout: createOutput(stdout, () => undefined),
    stderr: createOutput(stderr, onLost),
    stdin: input,
    exit,
    async resize(cols, rows) {
      await exec.resizeTty(rows, cols).catch(rethrowAs('resizing the terminal'));
    },
    async signal(signal) {
      await exec.signal(signal).catch(rethrowAs('sending a signal'));
    },
    hasChildren: deps.hasChildren,
    async killTree() {
      await deps.killTree();
      await withDeadline(exit, limits.killTimeoutMs, 'the end of the killed command');
    },
  };
}

function rethrowAs(doing: string): (error: unknown) => never {
  return (error) => {
    throw engineError(error, doing);
  };
}

async function waitForExit(deps: ExecDeps, lossText: () => string | null): Promise<ExecExit> {
  const wait = deps.exec.wait().then(
    ({ exitCode }) => exitCode,
    (error: unknown) => errorText(error),
  );
  const end = await Promise.race([wait, deps.engineEnd.then((reason) => ({ lost: reason }))]);
  if (typeof end === 'object') return end;
  if (typeof end === 'number' && end !== -1) return { exitCode: exitCodeOf(end) };
  // -1 means either a lost connection or an end by SIGHUP. After a lost connection, the engine's text is on stderr. It
  // may not have been read yet.
  await sleep(joinMs);
  if (!(await deps.isVmAlive()))
    return { lost: await Promise.race([deps.engineEnd, sleep(limits.connectTimeoutMs).then(() => 'the VM is gone')]) };
  const text = typeof end === 'string' ? end : lossText();
  if (text === null) return { exitCode: exitCodeOf(-1) };
  // The worker no longer sees the output of the command, so the command must not go on.
  await deps.killTree().catch(() => undefined);
  return { lost: `the connection to the command was lost: ${text}` };
}

/**
 * Makes a stream of bytes from the engine's pieces of text.
 * @param onLost gets the engine's text about a broken connection, which is no output of the command
 */
function createOutput(pieces: PieceStream, onLost: (text: string) => void): Readable {
  let pumping = false;
  let blocked = false;
  let waiting: Buffer[] = [];
  let waitingBytes = 0;
  let timer: NodeJS.Timeout | null = null;

  const output = new Readable({
    highWaterMark: joinBytes,
    read() {
      blocked = false;
      if (!pumping) void pump();
    },
    destroy(error, done) {
      if (timer !== null) clearTimeout(timer);
      done(error);
    },
  });

  function flush(): void {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    if (waitingBytes === 0 || output.destroyed) return;
    const bytes = Buffer.concat(waiting);
    waiting = [];
    waitingBytes = 0;
    blocked = !output.push(bytes);
  }

  async function pump(): Promise<void> {
    pumping = true;
    try {
      while (!blocked) {
        const piece = await pieces.next();
        if (piece === null || output.destroyed) {
          flush();
          output.push(null);
          return;
        }
        if (piece.startsWith(attachError)) {
          onLost(piece.slice(attachError.length).trim());
          continue;
        }
        const bytes = Buffer.from(piece, 'utf8');
        waiting.push(bytes);
        waitingBytes += bytes.length;
        if (waitingBytes >= joinBytes) flush();
        else timer ??= setTimeout(flush, joinMs);
      }
    } catch (error) {
      flush();
      onLost(errorText(error));
      output.push(null);
    } finally {
      pumping = false;
    }
  }
  return output;
}

function createInput(stdin: Awaited<ReturnType<EngineExec['stdin']>>): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      stdin.write(chunk).then(() => done(), done);
    },
    final(done) {
      stdin.close().then(() => done(), done);
    },
    destroy(error, done) {
      // Also after an error, the command must see the end of its input.
      stdin.close().then(
        () => done(error),
        () => done(error),
      );
    },
  });
}
