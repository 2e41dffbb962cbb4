// The reference for commands: one `crun exec` for each command in a bare loop, in the same boxes, with the same flags
// and control group. It also uses the same OCI process file, and the same small program (wrapper.ts) that puts the
// command's streams in place. It stores and sends nothing, and reads through plain pipes.
import { tmpdir } from 'node:os';
import { spawn } from 'node:child_process';
import { closeSync, constants, openSync, unlinkSync, writeFileSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { newId } from '../../src/shared/ids.ts';
import { boxHome } from '../../src/shared/settings/state-dir.ts';
import { defaultPath } from '../../src/worker/drivers/container/box/bundle.ts';
import { createBoxCgroups } from '../../src/worker/drivers/container/host/cgroups.ts';
import { processFileOf, processText } from '../../src/worker/drivers/container/exec/exec-process.ts';
import { boxPaths, cgroupOf } from '../../src/worker/drivers/container/paths.ts';
import { tryRuntime } from '../../src/worker/drivers/container/host/host-probe.ts';
import { chooseRuntime } from '../../src/worker/drivers/container/host/runtime.ts';
import { toolPath } from '../../src/worker/drivers/container/host/tools.ts';
import { rootUser } from '../../src/worker/drivers/users.ts';
import { wrapperFds } from '../../src/worker/drivers/container/exec/wrapper.ts';

/**
 * Runs a command. Resolves with its exit code when it has ended and its streams are read. `onPiece` gets the output. If
 * it returns a promise, the next piece waits for it.
 */
export type RawExec = (
  cmd: readonly string[],
  onPiece?: (piece: Buffer) => Promise<void> | undefined,
) => Promise<number>;

export interface RawBox {
  readonly boxId: string;
  readonly instanceId: string;
  readonly stateDir: string;
}

export async function createRawExec({ boxId, instanceId, stateDir }: RawBox): Promise<RawExec> {
  const runtime = await chooseRuntime((candidate) => tryRuntime(candidate, tmpdir()));
  const paths = boxPaths(boxHome(stateDir, boxId));
  const cgroups = createBoxCgroups(cgroupOf(instanceId, boxId));
  const nothing = openSync('/dev/null', constants.O_RDWR);
  return async (cmd, onPiece) => {
    const execId = newId('exec');
    const request = { execId, cmd, env: {}, workdir: null, user: null, tty: null, stdin: false };
    const processFile = processFileOf(paths, execId);
    const env = { PATH: defaultPath, HOME: rootUser.home };
    writeFileSync(processFile, processText([], request, { workdir: '/root', env, user: rootUser }), { mode: 0o600 });
    const joinFile = openSync(cgroups.addExec(execId), constants.O_WRONLY);
    const args = [
      '--root',
      paths.runtimeRoot,
      'exec',
      '--process',
      processFile,
      '--preserve-fds',
      String(wrapperFds.withStreams),
      boxId,
    ];
    const child = spawn(runtime.path, args, {
      cwd: '/',
      detached: true,
      stdio: ['ignore', 'ignore', nothing, joinFile, nothing, nothing, 'pipe', 'pipe'],
      env: { PATH: toolPath },
    });
    closeSync(joinFile);
    const streams: readonly unknown[] = child.stdio; // The types have only five streams.
    const [output, errors] = streams.slice(6) as [Readable, Readable];
    errors.resume();
    const closed = new Promise<number>((resolve, reject) => {
      child.once('close', (code) => {
        resolve(code ?? -1);
      });
      child.once('error', reject);
    });
    if (onPiece === undefined) output.resume();
    else for await (const piece of output) await onPiece(piece as Buffer);
    const exitCode = await closed;
    cgroups.tryRemoveExec(execId);
    unlinkSync(processFile);
    return exitCode;
  };
}
