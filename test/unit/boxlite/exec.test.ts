// Tests the handle of a command against a double of BoxLite. Pieces of text become bytes, the exit of the leader ends
// the command, and a lost connection is not taken for a result.
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { ExecRequest } from '../../../src/worker/drivers/driver-contract.ts';
import type { EngineExec } from '../../../src/worker/drivers/boxlite/engine.ts';
import { createExecHandle, type ExecDeps } from '../../../src/worker/drivers/boxlite/guest/engine-exec.ts';

const request: ExecRequest = {
  execId: 'exec_1',
  cmd: ['x'],
  env: {},
  workdir: null,
  user: null,
  tty: null,
  stdin: false,
};

interface Played {
  readonly stdout?: readonly (string | Promise<string>)[];
  readonly stderr?: readonly string[];
  readonly exitCode?: number | Promise<number>;
  /** The streams stay open, as with a child in the background. */
  readonly open?: boolean;
}

function play(played: Played) {
  let reads = 0;
  let stdinClosed = 0;
  const written: string[] = [];
  const stream = (pieces: readonly (string | Promise<string>)[]) => {
    const left = [...pieces];
    return {
      async next(): Promise<string | null> {
        reads += 1;
        const piece = await left.shift();
        if (piece !== undefined) return piece;
        if (played.open === true) await new Promise(() => undefined);
        return null;
      },
    };
  };
  const engine = {
    stdout: async () => stream(played.stdout ?? []),
    stderr: async () => stream(played.stderr ?? []),
    stdin: async () => ({
      write: async (data: Buffer) => void written.push(data.toString()),
      close: async () => void (stdinClosed += 1),
    }),
    wait: async () => ({ exitCode: await (played.exitCode ?? 0) }),
  };
  return { exec: engine as unknown as EngineExec, reads: () => reads, stdinClosed: () => stdinClosed, written };
}

function handle(played: ReturnType<typeof play>, more: Partial<ExecDeps> = {}) {
  return createExecHandle({
    request,
    exec: played.exec,
    killTree: async () => undefined,
    hasChildren: async () => false,
    engineEnd: new Promise(() => undefined),
    isVmAlive: async () => true,
    onExit: () => undefined,
    ...more,
  });
}

describe('the handle of a command', () => {
  it('joins pieces that arrive together', async () => {
    const played = play({ stdout: Array.from({ length: 50 }, () => 'ä'.repeat(512)) });
    const { stdout } = await handle(played);
    const chunks: Buffer[] = [];
    for await (const chunk of stdout) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).toString()).toBe('ä'.repeat(512 * 50));
    expect(chunks.length).toBeLessThan(5);
  });

  it('stops reading from the engine while no reader takes the output', async () => {
    const played = play({ stdout: Array.from({ length: 1000 }, () => 'x'.repeat(1024)), open: true });
    const { stdout } = await handle(played);
    stdout.once('readable', () => undefined);
    await delay(100);
    const readsThen = played.reads();
    expect(readsThen).toBeLessThan(400);
    await delay(50);
    expect(played.reads()).toBe(readsThen);
    let bytes = 0;
    stdout.on('data', (chunk: Buffer) => void (bytes += chunk.length));
    while (bytes < 1000 * 1024) await delay(5);
  });

  it('ends with the leader, even if children hold the streams', async () => {
    const { exit } = await handle(play({ stdout: ['out'], exitCode: 3, open: true }));
    expect(await exit).toEqual({ exitCode: 3 });
  });

  it('takes exit code -1 for an end by SIGHUP (signal 1) if no connection was lost', async () => {
    const { exit } = await handle(play({ exitCode: -1 }));
    expect(await exit).toEqual({ exitCode: 129 });
  });

  it('takes exit code -1 for a lost connection if the engine reports one, and kills the rest of the command', async () => {
    let kills = 0;
    const played = play({
      stderr: ['before\n', 'Attach stream error: status: Unknown\n'],
      exitCode: delay(20).then(() => -1),
    });
    const { exit, stderr } = await handle(played, { killTree: async () => void (kills += 1) });
    expect(await text(stderr)).toBe('before\n');
    expect(await exit).toEqual({ lost: 'the connection to the command was lost: status: Unknown' });
    expect(kills).toBe(1);
  });

  it('reports the command as lost at once when the VM ends', async () => {
    const { exit } = await handle(play({ exitCode: new Promise<number>(() => undefined) }), {
      engineEnd: Promise.resolve('the VM is gone'),
    });
    expect(await exit).toEqual({ lost: 'the VM is gone' });
  });

  it('closes the input of a command without input, and passes it on otherwise', async () => {
    const without = play({});
    await handle(without);
    expect(without.stdinClosed()).toBe(1);
    const played = play({ open: true });
    const { stdin } = await handle(played, { request: { ...request, stdin: true } });
    expect(played.stdinClosed()).toBe(0);
    stdin?.end('hello');
    await delay(10);
    expect(played.written).toEqual(['hello']);
    expect(played.stdinClosed()).toBeGreaterThan(0);
  });
});
