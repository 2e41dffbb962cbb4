// How the keeper starts, adopts and stops the writer. The writer outlives a keeper while workers need it, so the next
// keeper adopts it. A writer that does not answer is replaced. A writer of another build is replaced, too: it cannot
// bring the database to the schema of this build, and does not know all new requests. Two writers never run at the same
// time.
import { buildId } from '../shared/process/build.ts';
import {
  isAlive,
  killAndWait,
  killQuietly,
  processIdentity,
  type ProcessIdentity,
} from '../shared/process/child-process.ts';
import { sleep, withDeadline } from '../shared/waiting/clock.ts';
import type { Config } from '../shared/settings/config.ts';
import { noWriterNotices, writerContract, type WriterContract } from '../shared/contracts/writer.ts';
import { BoxRunError } from '../shared/errors.ts';
import { noSignOfLife } from '../shared/waiting/heartbeat.ts';
import { connectContract, type ServerPeer } from '../shared/ipc/client.ts';
import { limits } from '../shared/limits.ts';
import { livingProcess } from '../shared/process/process-file.ts';
import { statePaths } from '../shared/settings/state-dir.ts';
import { launch, type RunningChild, type StartChild } from './children.ts';

type Peer = ServerPeer<WriterContract>;

const pollMs = 20;

export function writerChild(config: Config): StartChild {
  const { writerSocket, writerFile } = statePaths(config.stateDir);
  const connect = () =>
    connectContract({
      path: writerSocket,
      contract: writerContract,
      hello: { role: 'keeper' },
      notices: noWriterNotices,
      silenceMs: config.silenceMs,
    });

  /**
   * Connects to a writer that already runs. Gives null when there is none, or when it had to be ended. A writer that
   * lives has `config.silenceMs` to answer, as every other process has; then it is killed.
   */
  async function adopt(): Promise<Peer | null> {
    const deadline = performance.now() + config.silenceMs;
    for (;;) {
      const peer = await connect().catch(() => null);
      if (peer?.hello.build === buildId) return peer;
      if (peer !== null) {
        await stopOldWriter(peer);
        return null;
      }
      const silentWriter = await livingProcess(writerFile);
      if (silentWriter === null) return null;
      if (performance.now() > deadline) {
        await killAndWait(silentWriter, limits.killTimeoutMs, 'a writer that hangs');
        return null;
      }
      await sleep(pollMs);
    }
  }

  return async () => {
    const adopted = await adopt();
    if (adopted !== null) {
      await sendSettings(adopted, config);
      return runningWriter(adopted);
    }
    const { ready, pid } = launch(config, 'writer', true);
    try {
      await ready;
      return await runningWriter(await connect());
    } catch (error) {
      killQuietly(pid, 'SIGKILL');
      throw error;
    }
  };
}

/**
 * On SIGTERM the old writer commits the changes that it has. Its clients send requests without an answer again, to the
 * next writer.
 */
async function stopOldWriter(peer: Peer): Promise<void> {
  const identity = await processIdentity(peer.hello.pid);
  peer.close('a new writer replaces this one');
  if (identity === null) return;
  killQuietly(identity.pid, 'SIGTERM');
  await waitForEnd(identity, limits.childStopMs);
  await killAndWait(identity, limits.killTimeoutMs, 'the writer before this one');
}

/**
 * Gives this keeper's settings to the writer that an earlier keeper started.
 * @throws RUNTIME_ERROR when the writer has another database open. The rows of the running boxes are in that database.
 */
async function sendSettings(peer: Peer, { dbPath, logLevel, logFormat, caps }: Config): Promise<void> {
  const { dbPath: written } = peer.hello;
  if (written === undefined) return; // A writer that does not name its database keeps its settings.
  if (written !== dbPath) {
    peer.close('this keeper wants another database');
    throw new BoxRunError(
      'RUNTIME_ERROR',
      `boxes of this state directory run, and their database is ${written}, not ${dbPath}`,
      {
        hint: `start the server with BOXRUN_DB=${written} and stop the boxes, then start it with the other database`,
      },
    );
  }
  await peer.request('settings', { logLevel, logFormat, retentionHours: caps.retentionHours });
}

async function runningWriter(peer: Peer): Promise<RunningChild> {
  const identity = await processIdentity(peer.hello.pid);
  let closedByKeeper = false;
  const gone = peer.closed.then(async (reason) => {
    if (identity === null || closedByKeeper) return reason;
    // A writer that ends by itself commits first, so it gets time for that. A writer that hangs is killed at once.
    if (reason !== noSignOfLife) await waitForEnd(identity, limits.childStopMs);
    await killAndWait(identity, limits.killTimeoutMs, 'the writer');
    return reason;
  });
  return {
    facts: { instanceId: peer.hello.instanceId, pid: peer.hello.pid },
    gone,
    async stop() {
      const answer = await peer.request('retire', {}).catch(() => ({ leaving: false }));
      if (answer.leaving) await withDeadline(gone, limits.childStopMs, 'stopping the writer').catch(() => undefined);
      closedByKeeper = true;
      peer.close('the keeper ends');
    },
  };
}

/** Resolves when the process has ended, or after `withinMs` milliseconds. */
async function waitForEnd(identity: ProcessIdentity, withinMs: number): Promise<void> {
  const deadline = performance.now() + withinMs;
  while ((await isAlive(identity)) && performance.now() < deadline) await sleep(pollMs);
}
