// The keeper's oldest child. The writer outlives a keeper while workers need it, so one that is there is adopted.
// One that does not answer is replaced, and so is one of another build: it cannot migrate the database, nor do all that
// new processes ask. Two writers never run: the old one is dead before the next one comes.
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
import { noSignOfLife } from '../shared/process/heartbeat.ts';
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

  /** One that lives gets as long to answer as any other process that is silent; then it is killed. */
  async function adopt(): Promise<Peer | null> {
    const deadline = performance.now() + config.silenceMs;
    for (;;) {
      const peer = await connect().catch(() => null);
      if (peer?.hello.build === buildId) return peer;
      if (peer !== null) {
        await retire(peer);
        return null;
      }
      const silent = await livingProcess(writerFile);
      if (silent === null) return null;
      if (performance.now() > deadline) {
        await killAndWait(silent, limits.killTimeoutMs, 'a writer that hangs');
        return null;
      }
      await sleep(pollMs);
    }
  }

  return async () => {
    const adopted = await adopt();
    if (adopted !== null) {
      await handOver(adopted, config);
      return running(adopted);
    }
    const { ready, pid } = launch(config, 'writer', true);
    try {
      await ready;
      return await running(await connect());
    } catch (error) {
      killQuietly(pid, 'SIGKILL');
      throw error;
    }
  };
}

/** It commits what it has. What its clients get no answer for, they send to the next one. */
async function retire(peer: Peer): Promise<void> {
  const identity = await processIdentity(peer.hello.pid);
  peer.close('its successor comes');
  if (identity === null) return;
  killQuietly(identity.pid, 'SIGTERM');
  await ended(identity, limits.childStopMs);
  await killAndWait(identity, limits.killTimeoutMs, 'the writer before this one');
}

/**
 * The writer of an earlier `serve` works on with the settings of this one.
 * @throws RUNTIME_ERROR when it writes another database: rows of running boxes are in that one
 */
async function handOver(peer: Peer, { dbPath, logLevel, logFormat, caps }: Config): Promise<void> {
  const { dbPath: written } = peer.hello;
  if (written === undefined) return; // Of the version before: it keeps the settings with which it was started.
  if (written !== dbPath) {
    peer.close('another database is wanted');
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

async function running(peer: Peer): Promise<RunningChild> {
  const identity = await processIdentity(peer.hello.pid);
  let left = false;
  const gone = peer.closed.then(async (reason) => {
    if (identity === null || left) return reason;
    // One that goes by itself commits what it has; one that hangs, or does not go, is ended.
    if (reason !== noSignOfLife) await ended(identity, limits.childStopMs);
    await killAndWait(identity, limits.killTimeoutMs, 'the writer');
    return reason;
  });
  return {
    facts: { instanceId: peer.hello.instanceId, pid: peer.hello.pid },
    gone,
    async stop() {
      const answer = await peer.request('retire', {}).catch(() => ({ leaving: false }));
      if (answer.leaving) await withDeadline(gone, limits.childStopMs, 'stopping the writer').catch(() => undefined);
      left = true;
      peer.close('the keeper goes');
    },
  };
}

async function ended(identity: ProcessIdentity, withinMs: number): Promise<void> {
  const deadline = performance.now() + withinMs;
  while ((await isAlive(identity)) && performance.now() < deadline) await sleep(pollMs);
}
