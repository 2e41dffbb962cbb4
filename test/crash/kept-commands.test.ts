// Tests that commands of a container go on when their worker is killed: the agent of the box keeps their output and
// their end for the next worker. No byte is missing or doubled.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Box, Exec } from '../../src/shared/api.ts';
import {
  collect,
  counted,
  expectSameText,
  startCrashServer,
  type CrashServer,
} from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { controlledPromise } from '../support/runs/unit.ts';
import { expectIntegrity } from '../support/host/host-state.ts';

let server: CrashServer;
let box: Box;
beforeEach(async () => {
  server = await startCrashServer({ args: ['--workers', '0'], env: { BOXRUN_AGENT: 'always' } });
  box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128, disk_size_gb: 1 });
});
afterEach(async () => {
  expectIntegrity(server.stateDir);
  await server.close();
});

const start = (script: string, more: object = {}): Promise<Exec> =>
  server.client.startExec(box.id, { cmd: ['sh', '-c', script], ...more });
const run = async (script: string) => collect(server.client, await start(script));

async function killWorker(): Promise<void> {
  await server.kill('worker', box.id);
  await eventually('commands run again', () =>
    run('echo up').then(
      ({ stdout }) => stdout === 'up\n',
      () => false,
    ),
  );
}

async function eventCount(exec: Exec): Promise<number> {
  let count = 0;
  for await (const event of server.client.execEvents(exec, { follow: false })) if (event.type === 'log') count += 1;
  return count;
}

describe('when a worker is killed', () => {
  it('its commands run on, and their output and exit codes are complete', async () => {
    const lines = 2_000;
    const counting = `i=0; while [ $i -lt ${lines} ]; do echo line-$i; i=$((i+1)); [ $((i%50)) = 0 ] && sleep 0.05; done`;
    const [slow, loud, ended] = [
      await start(`${counting}; exit 7`),
      await start('head -c 8000000 /dev/zero | tr "\\0" x; echo end >&2; sleep 0.2; exit 5'),
      await start('echo short; sleep 0.3; exit 3'),
    ];
    const followed = [slow, loud, ended].map((exec) => collect(server.client, exec));
    await eventually('it counts', async () => (await eventCount(slow)) > 3);
    await killWorker();
    const [one, two, three] = await Promise.all(followed);
    expectSameText(one?.stdout ?? '', counted(lines));
    expect(one?.exit).toMatchObject({ exitCode: 7, error: null });
    expect(two?.stdout.length).toBe(8_000_000);
    expect(/^x*$/.test(two?.stdout ?? '')).toBe(true);
    expect(two).toMatchObject({ stderr: 'end\n', exit: { exitCode: 5, error: null } });
    expect(three).toMatchObject({ stdout: 'short\n', exit: { exitCode: 3, error: null } });
    for (const [exec, code] of [
      [slow, 7],
      [loud, 5],
      [ended, 3],
    ] as const)
      expect(await server.client.getExec(box.id, exec.id)).toMatchObject({ status: 'failed', exit_code: code });
  });

  it('a detachable terminal goes on, and its client reads and types on in the same connection', async () => {
    const exec = await server.client.startExec(box.id, {
      cmd: ['sh', '-c', 'seq 700000; while read line; do echo "got $line"; [ "$line" = end ] && exit 4; done'],
      tty: true,
      detachable: true,
    });
    const terminal = await server.client.attachExec(box.id, exec.id);
    let shown = '';
    const reading = (async () => {
      for await (const piece of terminal.output) shown += Buffer.from(piece).toString();
    })();
    for (const word of ['one', 'two']) {
      await terminal.write(`${word}\n`);
      await eventually(`it has read ${word}`, () => shown.includes(`got ${word}\r\n`), 60_000);
      await killWorker();
    }
    await terminal.write('end\n');
    expect(await terminal.exited).toEqual({ exitCode: 4, error: null });
    await reading;
    const numbers = Array.from({ length: 700_000 }, (_, index) => `${index + 1}\r\n`).join('');
    // The terminal shows typed words, too. The first one may be typed while the numbers come.
    const output = shown.replace(/(?<!got )(one|two|end)\r\n/g, '');
    expectSameText(output, `${numbers}got one\r\ngot two\r\ngot end\r\n`);
  });

  it('a command that reads its input goes on reading, also after three kills', async () => {
    const exec = await start('while read line; do echo "got $line"; [ "$line" = end ] && exit 4; done', {
      stdin: true,
    });
    const followed = collect(server.client, exec);
    const words = ['one', 'two', 'three', 'end'];
    for (const [index, word] of words.entries()) {
      if (index > 0) await killWorker();
      const input = await server.client.attachExec(box.id, exec.id, { output: false });
      input.exited.catch(() => undefined);
      await input.write(`${word}\n`);
      await eventually(`it has read ${word}`, async () => (await eventCount(exec)) >= index + 1);
    }
    const { stdout, exit } = await followed;
    expect(stdout).toBe(words.map((word) => `got ${word}\n`).join(''));
    expect(exit.exitCode).toBe(4);
  });

  it('its commands can be signaled and canceled, and keep their timeout', async () => {
    const [signaled, canceled, late] = [
      await start('trap "echo trapped; exit 9" USR1; echo ready; while :; do sleep 0.05; done'),
      await start('sleep 1000'),
      await start('sleep 1000', { timeout_ms: 3_000 }),
    ];
    const followed = [signaled, canceled, late].map((exec) => collect(server.client, exec));
    await eventually('it is ready', async () => (await eventCount(signaled)) === 1);
    await killWorker();
    await server.client.signalExec(box.id, signaled.id, 'USR1');
    expect(await server.client.cancelExec(box.id, canceled.id)).toMatchObject({ status: 'canceled' });
    const [one, two, three] = await Promise.all(followed);
    expect(one).toMatchObject({ stdout: 'ready\ntrapped\n', exit: { exitCode: 9 } });
    expect(two?.exit.error).toBe('canceled');
    expect(three?.exit.error).toBe('timed out after 3000 ms');
  });

  it('a command that had ended before is not run again, and its background child lives on', async () => {
    const first = await run('sleep 1000 >/dev/null 2>&1 & echo started');
    expect(first).toMatchObject({ stdout: 'started\n', exit: { exitCode: 0 } });
    await killWorker();
    expect((await run('ps | grep -c "[s]leep 1000"')).stdout).toBe('1\n');
    await server.client.stopBox(box.id);
    await server.client.startBox(box.id);
    expect((await run('echo again')).stdout).toBe('again\n');
  });

  it('a write of a file ends with a clear error, and leaves the old file and no other one', async () => {
    const files = server.client.files(box.id);
    await files.write('/survivor', 'old');
    const rest = controlledPromise<Buffer>();
    async function* slowly() {
      yield Buffer.alloc(100_000, 'x');
      yield await rest.promise;
    }
    const write = files.write('/survivor', slowly());
    write.catch(() => undefined);
    await eventually('the write has begun', async () => (await run('ps')).stdout.includes('files 1 write'));
    await killWorker();
    rest.resolve(Buffer.alloc(100_000, 'x'));
    await expect(write).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(await files.readText('/survivor')).toBe('old');
    await eventually('the program has ended', async () => !(await run('ps')).stdout.includes('files 1 write'));
    expect((await files.list('/')).filter(({ name }) => name.startsWith('.boxrun'))).toEqual([]);
  });
});
