// Tests how BoxRun runs tools and other processes: their results, their deadline, and that no process is left, even if
// the parent is killed.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  isAlive,
  killAndWait,
  killQuietly,
  processIdentity,
  runTool,
} from '../../../src/shared/process/child-process.ts';
import { runTypescript } from '../../support/runs/typescript-child.ts';
import { eventually } from '../../support/runs/eventually.ts';

const shell = (script: string, options: Partial<Parameters<typeof runTool>[2]> = {}) =>
  runTool('sh', ['-c', script], { timeoutMs: 5_000, ...options });

async function gone(pid: number): Promise<void> {
  await eventually(`process ${pid} is gone`, async () => (await processIdentity(pid)) === null);
}

function sleeper(): number {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  return child.pid as number;
}

describe('a tool that BoxRun runs', () => {
  it('gives its exit code and both streams', async () => {
    expect(await shell('echo out; echo err >&2; exit 3')).toEqual({ exitCode: 3, stdout: 'out\n', stderr: 'err\n' });
  });

  it('gets its input, directory and environment', async () => {
    const { stdout } = await shell('cat; pwd; echo $WORD', {
      input: 'in\n',
      cwd: '/',
      env: { PATH: process.env['PATH'], WORD: 'w' },
    });
    expect(stdout).toBe('in\n/\nw\n');
  });

  it('may end without reading a large input', async () => {
    expect((await shell('exit 0', { input: Buffer.alloc(4 * 1024 * 1024) })).exitCode).toBe(0);
  });

  it('has only the last MiB of a huge output kept', async () => {
    const { stdout } = await shell('head -c 3000000 /dev/zero | tr "\\0" x; echo end');
    expect(stdout.length).toBe(1024 * 1024);
    expect(stdout.endsWith('xxxend\n')).toBe(true);
  });

  it('reports each line of its progress as it arrives', async () => {
    const lines: string[] = [];
    await shell('printf "10%%\\r20%%\\r" >&2; printf "do" >&2; sleep 0.05; printf "ne\\nrest" >&2', {
      onStderrLine: (line) => lines.push(line),
    });
    expect(lines).toEqual(['10%', '20%', 'done']);
  });

  it('has its late output kept, even if this process could not run until the wait was over', async () => {
    let exited: (() => void) | null = null;
    const announced = new Promise<void>((resolve) => (exited = resolve));
    // A child in a session of its own prints shortly after the end of the tool.
    const result = shell('setsid sh -c "sleep 0.25; echo late; exec sleep 1" & echo exiting >&2', {
      onStderrLine: () => exited?.(),
    });
    await announced;
    await new Promise((resolve) => setTimeout(resolve, 100));
    // After this, timers run first, as after a time without the processor.
    await new Promise((resolve) => setImmediate(resolve));
    for (const until = performance.now() + 700; performance.now() < until;);
    expect((await result).stdout).toBe('late\n');
  });

  it('gives 137 if it is killed by KILL', async () => {
    expect((await shell('kill -KILL $$')).exitCode).toBe(137);
  });

  it('gives 128 plus the number of another signal that kills it', async () => {
    expect((await shell('kill -TERM $$')).exitCode).toBe(143);
  });

  it('gives RUNTIME_ERROR with its name if it does not exist', async () => {
    await expect(runTool('no-such-tool', [], { timeoutMs: 1_000 })).rejects.toMatchObject({
      code: 'RUNTIME_ERROR',
      message: expect.stringContaining('no-such-tool') as unknown,
    });
  });
});

describe('a tool that must end early', () => {
  it('is killed with all its children at its deadline and gives TIMEOUT', async () => {
    let pid = 0;
    const run = shell('sleep 60 & echo $! >&2; wait', {
      timeoutMs: 1_000,
      onStderrLine: (line) => {
        pid = Number(line);
      },
    });
    await expect(run).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(pid).toBeGreaterThan(0);
    await gone(pid);
  });

  it('is killed when it is canceled and gives CANCELED', async () => {
    const stopping = new AbortController();
    let pid = 0;
    const run = shell('sleep 60 & echo $! >&2; wait', {
      signal: stopping.signal,
      onStderrLine: (line) => {
        pid = Number(line);
        stopping.abort();
      },
    });
    await expect(run).rejects.toMatchObject({ code: 'CANCELED' });
    await gone(pid);
  });

  it('is not started if it was canceled before, and gives CANCELED', async () => {
    await expect(shell('true', { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELED' });
  });

  it('ends at its deadline even if a child in a session of its own holds its output', async () => {
    let pid = 0;
    onTestFinished(() => {
      if (pid > 0) killQuietly(pid, 'SIGKILL');
    });
    const run = shell("setsid sh -c 'echo $$ >&2; exec sleep 20' & wait", {
      timeoutMs: 1_000,
      onStderrLine: (line) => {
        pid = Number(line);
      },
    });
    await expect(run).rejects.toMatchObject({ code: 'TIMEOUT' });
  });

  it('dies with the process that runs it, even if that process is killed', async () => {
    const parent = await runTypescript(`
      import { runTool } from './src/shared/process/child-process.ts';
      await runTool('sh', ['-c', 'echo $$ >&2; exec sleep 60'], { timeoutMs: 60_000, onStderrLine: (line) => console.log(line) });
    `);
    const pid = Number(await parent.line());
    expect(await processIdentity(pid)).not.toBeNull();
    parent.child.kill('SIGKILL');
    await gone(pid);
  });
});

describe('the identity of a process', () => {
  it('differs from the one of another process with the same number', async () => {
    const identity = await processIdentity(sleeper());
    expect(identity).not.toBeNull();
    if (identity === null) return;
    expect(await isAlive(identity)).toBe(true);
    expect(await isAlive({ ...identity, startTicks: identity.startTicks - 1 })).toBe(false);
  });

  it('is read correctly after a name with spaces and parentheses', async () => {
    const child = spawn('bash', ['-c', 'exec -a x sh -c "printf \\") R 1 (\\" > /proc/self/comm; read line"'], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
    await once(child, 'spawn');
    const [ours, theirs] = await Promise.all([processIdentity(process.pid), processIdentity(child.pid as number)]);
    expect(theirs?.startTicks).toBeGreaterThanOrEqual(ours?.startTicks ?? Infinity);
  });

  it('is null for a process that has ended, and for a zombie', async () => {
    const parent = spawn('sh', ['-c', '(exit 0) & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'ignore'] });
    onTestFinished(() => {
      parent.kill('SIGKILL');
    });
    const [line] = (await once(parent.stdout, 'data')) as [Buffer];
    await gone(Number(line.toString()));
    expect(await processIdentity(2 ** 22 + 1)).toBeNull();
  });
});

describe('the kill of a process', () => {
  it('never reaches the group of the caller, for which kill(2) takes 0', async () => {
    let signals = 0;
    const count = () => {
      signals += 1;
    };
    process.on('SIGURG', count);
    onTestFinished(() => {
      process.off('SIGURG', count);
    });
    killQuietly(0, 'SIGURG');
    // The kernel delivers signals with a lower number first, so this one comes after the other.
    const later = once(process, 'SIGWINCH');
    process.kill(process.pid, 'SIGWINCH');
    await later;
    expect(signals).toBe(0);
  });

  it('ends when the process has ended', async () => {
    const identity = await processIdentity(sleeper());
    if (identity === null) throw new Error('no sleeper');
    await killAndWait(identity, 5_000, 'a process of a test');
    expect(await isAlive(identity)).toBe(false);
    await killAndWait(identity, 1, 'a process of a test');
  });

  it('does not kill another process that has the same number now', async () => {
    const identity = await processIdentity(sleeper());
    if (identity === null) throw new Error('no sleeper');
    await killAndWait({ ...identity, startTicks: identity.startTicks - 1 }, 1_000, 'a process of a test');
    expect(await isAlive(identity)).toBe(true);
  });

  it('ignores a process that does not exist', () => {
    expect(() => {
      killQuietly(2 ** 22 + 1, 'SIGTERM');
    }).not.toThrow();
  });
});
