// Starts one command with a terminal. The OCI runtime makes the terminal inside the box and sends it to our program on
// the host (host-program/terminal.c), which copies between the terminal and two pipes. It loses and adds no byte, and a
// full pipe makes both sides wait.
import { spawn } from 'node:child_process';
import { closeSync, constants, openSync, writeFileSync } from 'node:fs';
import type { Duplex, Readable, Writable } from 'node:stream';
import { BoxRunError } from '../../../../shared/errors.ts';
import { homeMark } from '../../../../shared/host/host-marks.ts';
import type { ExecExit, ExecRequest } from '../../driver-contract.ts';
import {
  processFileOf,
  firstReport,
  removeEndedExec,
  processText,
  removeQuietly,
  type ExecContext,
  type PreparedCommand,
  type StartedProcess,
} from './exec-process.ts';
import { findProgram, hostProgramVersion } from '../../programs.ts';
import { toolPath } from '../host/tools.ts';
import { wrapperFds } from './wrapper.ts';

/** As in host-program.h: the kinds of reports, and the word in the runtime's command line that the program replaces. */
const reportKinds = { exited: 1, failed: 2 };
const reportBytes = 8;
const terminalSocketWord = '@terminal-socket';

/**
 * Starts a command with a terminal of that size.
 * @throws RUNTIME_ERROR when this build has no program for terminals
 */
export async function spawnTerminal(
  context: ExecContext,
  request: ExecRequest,
  command: PreparedCommand,
  { cols, rows }: { readonly cols: number; readonly rows: number },
): Promise<StartedProcess> {
  const { paths, pipes, cgroups, runtime, boxId, rootId } = context;
  const program = await findProgram('host');
  if (program === null) {
    throw new BoxRunError('RUNTIME_ERROR', 'this build of BoxRun has no program for terminals', {
      hint: 'install gcc and libc6-dev, then build again: npm run build',
    });
  }
  const processFile = processFileOf(paths, request.execId);
  const opened: number[] = [];
  const streams: (Readable | Writable)[] = [];
  try {
    const output = await pipes.output();
    opened.push(output.childFd);
    streams.push(output.reader);
    const input = await pipes.input();
    opened.push(input.childFd);
    streams.push(input.writer);
    writeFileSync(processFile, processText(context.limits, request, command), { mode: 0o600 });
    const joinFile = openSync(cgroups.addExec(request.execId), constants.O_WRONLY);
    opened.push(joinFile);
    const runDir = openSync(paths.run, constants.O_RDONLY | constants.O_DIRECTORY);
    opened.push(runDir);
    const { uid, gid } = command.user;
    const child = spawn(
      program,
      [
        ...['terminal', hostProgramVersion, `${rows}`, `${cols}`, `${rootId + uid}`, `${rootId + gid}`],
        ...[runtime.path, '--root', paths.runtimeRoot, 'exec', '--detach', '--console-socket', terminalSocketWord],
        ...['--process', processFile, '--preserve-fds', String(wrapperFds.withTerminal), boxId],
      ],
      {
        cwd: '/',
        detached: true,
        stdio: [input.childFd, output.childFd, 'pipe', joinFile, 'pipe', 'pipe', runDir],
        env: { PATH: toolPath, [homeMark]: paths.home },
      },
    );
    const [stderr, , report, line] = child.stdio.slice(2) as [Readable, null, Duplex, Duplex];
    const exit = exitOf(child, line).then((how) => {
      removeEndedExec(context, request.execId, processFile);
      return how;
    });
    const begun = firstReport(report, child);
    begun.catch(() => undefined); // The caller of this function handles the error.
    return {
      begun,
      stdout: output.reader,
      stderr,
      stdin: input.writer,
      exit,
      clientPid: child.pid ?? 0,
      resize: (size) => {
        if (line.writable) line.write(sizeMessage(size));
      },
    };
  } catch (error) {
    for (const stream of streams) stream.destroy();
    removeQuietly(processFile);
    cgroups.tryRemoveExec(request.execId);
    throw error;
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/** Two numbers of two bytes each, in the processor's byte order. */
function sizeMessage({ cols, rows }: { readonly cols: number; readonly rows: number }): Buffer {
  return Buffer.from(Uint16Array.of(rows, cols).buffer);
}

/** Resolves with the command's end, which the program reports. The program ends later, after all output. */
function exitOf(child: ReturnType<typeof spawn>, line: Duplex): Promise<ExecExit> {
  return new Promise((resolve) => {
    let received = Buffer.alloc(0);
    line.on('data', (piece: Buffer) => {
      received = Buffer.concat([received, piece]);
      for (; received.length >= reportBytes; received = received.subarray(reportBytes)) {
        const [kind = 0, value = 0] = new Int32Array(Uint8Array.from(received.subarray(0, reportBytes)).buffer);
        if (kind === reportKinds.exited) resolve({ exitCode: value });
        else if (kind === reportKinds.failed) resolve({ lost: `the OCI runtime ended with code ${value}` });
      }
    });
    line.on('error', () => undefined); // The 'close' event below has the reason.
    child.once('error', (error) => {
      resolve({ lost: `the terminal's program could not be started: ${error.message}` });
    });
    child.once('close', (code, signal) => {
      resolve({ lost: `the terminal's program was ended by ${signal ?? `code ${code}`}` });
    });
  });
}
