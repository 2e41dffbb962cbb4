// One command of a box: the engine's execution as streams of bytes, one exit, and a kill of the whole tree. Called by
// driver.ts. The leader's end counts, never the streams': children may hold those open for as long as they like.
// The engine has no back-pressure: output goes through a ring of 1 MiB in the VM, which drops what the host is too slow
// for and says so in the stream (`[boxlite] stdout output dropped N bytes`), and waits unbounded on the host until it
// is read here.
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

/** Pieces that come within this time of each other leave as one. */
const joinMs = 2;
const joinBytes = 64 * 1024;

/** What the engine writes into stderr when it loses its connection to the command. */
const attachError = 'Attach stream error: ';

export interface ExecDeps {
  readonly request: ExecRequest;
  readonly exec: EngineExec;
  readonly killTree: () => Promise<void>;
  readonly hasChildren: () => Promise<boolean>;
  /** Resolves with the reason when the VM has ended. */
  readonly engineEnd: Promise<string>;
  readonly isVmAlive: () => Promise<boolean>;
  /** The leader has ended. */
  readonly onExit: () => void;
}

export async function createExecHandle(deps: ExecDeps): Promise<ExecHandle> {
  const { request, exec } = deps;
  let lostWords: string | null = null;
  const onLost = (words: string) => {
    lostWords ??= words;
  };
  const [stdout, stderr, stdin] = await Promise.all([exec.stdout(), exec.stderr(), exec.stdin()]);
  const input = request.stdin ? createInput(stdin) : null;
  // A command that is given no input finds its end; a terminal has to stay open.
  if (input === null && request.tty === null) void stdin.close().catch(() => undefined);
  const exit = waitForExit(deps, () => lostWords).finally(deps.onExit);

  return {
    stdout: createOutput(stdout, () => undefined),
    stderr: createOutput(stderr, onLost),
    stdin: input,
    exit,
    async resize(cols, rows) {
      await exec.resizeTty(rows, cols).catch(refuse('resizing the terminal'));
    },
    async signal(signal) {
      await exec.signal(signal).catch(refuse('sending a signal'));
    },
    hasChildren: deps.hasChildren,
    async killTree() {
      await deps.killTree();
      await withDeadline(exit, limits.killTimeoutMs, 'the end of the killed command');
    },
  };
}

function refuse(doing: string): (error: unknown) => never {
  return (error) => {
    throw engineError(error, doing);
  };
}

async function waitForExit(deps: ExecDeps, lostWords: () => string | null): Promise<ExecExit> {
  const wait = deps.exec.wait().then(
    ({ exitCode }) => exitCode,
    (error: unknown) => errorText(error),
  );
  const end = await Promise.race([wait, deps.engineEnd.then((reason) => ({ lost: reason }))]);
  if (typeof end === 'object') return end;
  if (typeof end === 'number' && end !== -1) return { exitCode: exitCodeOf(end) };
  // -1 is both a lost connection and death by SIGHUP. The words about a lost one are on stderr, perhaps not read yet.
  await sleep(joinMs);
  if (!(await deps.isVmAlive()))
    return { lost: await Promise.race([deps.engineEnd, sleep(limits.connectTimeoutMs).then(() => 'the VM is gone')]) };
  const words = typeof end === 'string' ? end : lostWords();
  if (words === null) return { exitCode: exitCodeOf(-1) };
  // Nothing of it can be seen any more, so nothing of it may go on.
  await deps.killTree().catch(() => undefined);
  return { lost: `the connection to the command was lost: ${words}` };
}

/**
 * Bytes from the engine's pieces of text; `onLost` gets the engine's own words about a broken connection, which are no
 * output.
 */
function createOutput(pieces: PieceStream, onLost: (words: string) => void): Readable {
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
      // However it ends, the command must see the end of its input.
      stdin.close().then(
        () => done(error),
        () => done(error),
      );
    },
  });
}
