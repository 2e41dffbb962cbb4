// A command with a terminal: the runtime makes one inside the box, and its client copies between that and one of the host, which is made
// here. Called by exec.ts. The native module is loaded with the first terminal only.
import { closeSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { Readable, Writable } from 'node:stream';
import type { IPty } from '@lydell/node-pty';
import { homeMark } from '../../../shared/host-marks.ts';
import type { ExecExit, ExecRequest } from '../driver.ts';
import { processFileOf, firstWords, forgetExec, processText, removeQuietly, type ExecContext, type PreparedCommand, type StartedProcess } from './exec-process.ts';
import { toolPath } from './tools.ts';
import { wrapperFds } from './wrapper.ts';

/** The wrapper's descriptors cannot be handed over by the module: a shell opens them ($1 the control group, $2 the report). */
const openAndRun = 'exec 3>"$1" 4>"$2" || exit 1; shift 2; exec "$@"';

export async function spawnTerminal(
  context: ExecContext,
  request: ExecRequest,
  command: PreparedCommand,
  { cols, rows }: { readonly cols: number; readonly rows: number },
): Promise<StartedProcess> {
  const { paths, pipes, cgroups, runtime, boxId } = context;
  const { spawn } = await import('@lydell/node-pty');
  const processFile = processFileOf(paths, request.execId);
  const report = await pipes.output();
  try {
    writeFileSync(processFile, processText(context.limits, request, command), { mode: 0o600 });
    const pty = spawn(
      '/bin/sh',
      [
        ...['-c', openAndRun, 'sh', cgroups.addExec(request.execId), `/proc/${process.pid}/fd/${report.childFd}`],
        ...[runtime.path, '--root', paths.runtimeRoot, 'exec', '--process', processFile],
        ...['--preserve-fds', String(wrapperFds.withTerminal), boxId],
      ],
      { cols, rows, cwd: '/', env: { PATH: toolPath, [homeMark]: paths.home }, encoding: null },
    );
    const exit = new Promise<ExecExit>((resolve) => {
      pty.onExit(({ exitCode, signal }) => {
        forgetExec(context, request.execId, processFile);
        resolve(signal === undefined || signal === 0 ? { exitCode } : { lost: `the OCI runtime's client was ended by signal ${signal}` });
      });
    });
    const ended = exit.then(() => {
      throw new Error('the runtime ended before the command began');
    });
    const begun = Promise.race([firstWords(report.reader, null), ended]).finally(() => {
      closeSync(report.childFd); // The shell opens it through us.
    });
    begun.catch(() => undefined); // Whoever waits for it sees it.
    ended.catch(() => undefined);
    return { begun, ...streamsOf(pty), stderr: Readable.from([]), exit, clientPid: pty.pid };
  } catch (error) {
    report.reader.destroy();
    closeSync(report.childFd);
    removeQuietly(processFile);
    cgroups.tryRemoveExec(request.execId);
    throw error;
  }
}

/** The terminal's two directions with back-pressure, for which the module's own interface has no words; its socket does. */
function streamsOf(pty: IPty): { stdout: Readable; stdin: Writable } {
  const socket = (pty as unknown as { readonly _socket: Socket })._socket;
  const stdout = new Readable({
    read() {
      socket.resume();
    },
    destroy(error, done) {
      socket.resume(); // What still comes is dropped.
      done(error);
    },
  });
  socket.on('data', (piece: Buffer) => {
    if (!stdout.destroyed && !stdout.push(piece)) socket.pause();
  });
  socket.on('close', () => {
    if (!stdout.destroyed) stdout.push(null);
  });
  const stdin = new Writable({
    write(piece: Buffer, _encoding, done) {
      if (socket.destroyed) done();
      else socket.write(piece, () => { done(); });
    },
  });
  return { stdout, stdin };
}
