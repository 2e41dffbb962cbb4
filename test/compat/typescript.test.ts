// Tests the TypeScript SDK against a real server, over TCP and over the Unix socket. Its unit tests use no real server.
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BoxRun, type BoxHandle, type Terminal } from '../../src/sdk/index.ts';
import { eventually } from '../support/runs/eventually.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';
import { installInto, root } from './program.ts';

const small = { image: 'base', cpu: 1, memory_mb: 128 };
const directory = mkdtempSync(join(tmpdir(), 'boxrun-typescript-'));
let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
  await rm(directory, { recursive: true, force: true });
});

describe.each(['tcp', 'socket'] as const)('the TypeScript SDK over %s', (via) => {
  let boxrun: BoxRun;
  let box: BoxHandle;
  beforeAll(async () => {
    boxrun = new BoxRun(
      via === 'tcp' ? { url: `http://127.0.0.1:${server.port}/` } : { socketPath: server.socketPath },
    );
    box = await boxrun.create({ ...small, name: `typescript-${via}` });
  });
  afterAll(async () => {
    await box[Symbol.asyncDispose]();
    await boxrun[Symbol.asyncDispose]();
  });

  it('creates, lists, stops, starts and removes boxes', async () => {
    expect((await boxrun.info()).max_cpu).toBe(64);
    expect(await boxrun.getBox(`typescript-${via}`)).toEqual(box);
    expect((await boxrun.listBoxes('running')).map(({ id }) => id)).toContain(box.id);
    await box.stop();
    expect(box.status).toBe('stopped');
    await expect(box.exec(['true'])).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
    await box.start();
    expect(box.status).toBe('running');
    await expect(box.remove()).rejects.toMatchObject({ code: 'BOX_ALREADY_RUNNING', status: 409 });
    const other = await boxrun.create(small);
    await boxrun.stopBox(other.id);
    expect(await boxrun.gc(0)).toEqual({ removed: 1 });
    await expect(other.refresh()).rejects.toMatchObject({ code: 'BOX_NOT_FOUND' });
    await other[Symbol.asyncDispose]();
  });

  it('runs commands', async () => {
    const result = await box.exec({
      cmd: ['sh', '-c', 'echo $A; pwd; echo oops >&2; exit 3'],
      env: { A: 'b' },
      workdir: '/tmp',
    });
    expect(result).toMatchObject({ exitCode: 3, error: null, stdout: 'b\n/tmp\n', stderr: 'oops\n' });
    expect((await box.exec(['printf', 'a\\377'])).stdoutBytes).toEqual(Uint8Array.from([0x61, 0xff]));
    expect(await box.exec({ cmd: ['sleep', '1000'], timeout_ms: 200 })).toMatchObject({
      error: expect.stringContaining('timed out') as string,
    });
    expect(await boxrun.run({ ...small, cmd: ['echo', 'hi'] })).toMatchObject({ exit_code: 0, stdout: 'hi\n' });
  });

  it('starts, follows, lists and cancels commands', async () => {
    const exec = await box.startExec(['sh', '-c', 'echo started; sleep 1000']);
    expect(exec.status).toBe('running');
    const seen: unknown[] = [];
    for await (const event of boxrun.execEvents(exec)) {
      seen.push(event.type === 'log' ? event.text : event.error);
      if (event.type === 'log') await box.cancelExec(exec.id);
    }
    expect(seen).toEqual(['started\n', expect.stringMatching(/cancel/)]);
    expect(await box.getExec(exec.id)).toMatchObject({ status: 'canceled' });
    expect((await box.listExecs())[0]?.id).toBe(exec.id);
    await expect(box.cancelExec(exec.id)).rejects.toMatchObject({ code: 'EXEC_ALREADY_FINISHED' });
  });

  it('kills a command when the loop over its events is left, or its signal aborts', async () => {
    for await (const _event of box.execStream(['sh', '-c', 'echo started; sleep 1000'])) break;
    expect((await box.listExecs())[0]?.status).toBe('canceled');
    const abort = new AbortController();
    const aborted = box.exec(['sleep', '1000'], { signal: abort.signal }).catch((error: unknown) => error);
    await eventually('it runs', async () => (await box.listExecs())[0]?.status === 'running');
    abort.abort();
    expect(await aborted).toMatchObject({ code: 'CANCELED' });
    expect((await box.listExecs())[0]?.status).toBe('canceled');
  });

  it('uploads and downloads 16 MB unchanged', async () => {
    const content = randomBytes(16 * 1024 * 1024);
    async function* pieces() {
      for (let at = 0; at < content.length; at += 100_000) yield content.subarray(at, at + 100_000);
    }
    await box.upload(pieces(), '/root/large file');
    const hash = createHash('sha256').update(content).digest('hex');
    expect((await box.exec(['sha256sum', '/root/large file'])).stdout).toContain(hash);
    const download = await box.download('/root/large file');
    expect(
      createHash('sha256')
        .update(await download.bytes())
        .digest('hex'),
    ).toBe(hash);
    await expect(box.download('/root/nothing')).rejects.toMatchObject({ code: 'RUNTIME_ERROR' });
    await expect(box.upload(content, '/root')).rejects.toMatchObject({ code: 'VALIDATION_ERROR' });
    await expect(boxrun.upload('nobody', content, '/root/a')).rejects.toMatchObject({ code: 'BOX_NOT_FOUND' });
  });

  it('opens terminals', async () => {
    const terminal = await box.attach({ shell: '/bin/sh', cols: 101, rows: 33 });
    let text = '';
    const shown = (async () => {
      for await (const bytes of terminal.output) text += Buffer.from(bytes).toString();
    })();
    await terminal.write('stty size; read line; stty size; exit 4\n');
    await expect.poll(() => text).toContain('33 101');
    terminal.resize(120, 40);
    await terminal.write('\n');
    expect(await terminal.exited).toEqual({ exitCode: 4, error: null });
    await shown;
    expect(text).toContain('40 120');
    await expect(boxrun.attach('nobody').then(async ({ exited }) => exited)).rejects.toMatchObject({
      code: 'BOX_NOT_FOUND',
    });
  });

  it('sends input and signals to a command, and waits for its end', async () => {
    const exec = await box.startExec({ cmd: ['sh', '-c', 'cat; echo oops >&2; exit 6'], stdin: true });
    const terminal = await box.attachExec(exec.id);
    await terminal.write('from here\n');
    terminal.end();
    expect(await terminal.exited).toEqual({ exitCode: 6, error: null });
    expect(await new Response(terminal.output).text()).toBe('from here\n');
    expect(await new Response(terminal.errors).text()).toBe('oops\n');
    const sleeping = await box.startExec(['sleep', '1000']);
    await box.signalExec(sleeping.id, 'TERM');
    expect(await box.getExec(sleeping.id, { waitS: 10 })).toMatchObject({ status: 'failed', exit_code: 143 });
  });

  it('kills the shell of a terminal when the terminal is closed', async () => {
    const terminal: Terminal = await box.attach({ shell: '/bin/sh' });
    await terminal.write('sleep 4242\n');
    await expect.poll(async () => (await box.exec(['sh', '-c', 'ps | grep "[s]leep 4242"'])).exitCode).toBe(0);
    await terminal[Symbol.asyncDispose]();
    await expect.poll(async () => (await box.exec(['sh', '-c', 'ps | grep "[s]leep 4242"'])).exitCode).toBe(1);
  });
});

it('the TypeScript SDK resumes after the last event when its connection is lost many times', async () => {
  let connections = 0;
  // The proxy cuts every connection after this number of bytes.
  const cutAfterBytes = 300_000;
  const proxy = createServer((incoming) => {
    connections++;
    const outgoing = connect(server.socketPath);
    let passed = 0;
    const cut = () => {
      incoming.destroy();
      outgoing.destroy();
    };
    incoming.on('error', cut).on('close', cut).pipe(outgoing);
    outgoing
      .on('error', cut)
      .on('close', cut)
      .on('data', (data: Buffer) => {
        passed += data.length;
        incoming.write(data);
        if (passed > cutAfterBytes) incoming.end(cut);
      });
  });
  const proxyPath = join(directory, 'proxy.sock');
  await new Promise<void>((resolve) => proxy.listen(proxyPath, resolve));
  const boxrun = new BoxRun({ socketPath: proxyPath });
  const box = await boxrun.create(small);
  const { stdout } = await box.exec([
    'sh',
    '-c',
    'i=0; while [ $i -lt 40 ]; do head -c 50000 /dev/zero | tr "\\\\0" x; echo " $i"; i=$((i + 1)); done',
  ]);
  expect(stdout).toBe(Array.from({ length: 40 }, (_, index) => `${'x'.repeat(50_000)} ${index}\n`).join(''));
  expect(connections).toBeGreaterThan(5);
  console.log(`The TypeScript SDK: 2 MB of output over ${connections} connections that were cut`);
  await box.remove({ force: true });
  await boxrun.close();
  proxy.close();
});

it.each([
  ['Node', 'boxrun/sdk', { lib: ['ES2023', 'ESNext.Disposable'], types: ['node'] }],
  [
    'a browser',
    'boxrun/sdk/browser',
    { lib: ['ES2023', 'ESNext.Disposable', 'DOM', 'DOM.Iterable', 'DOM.AsyncIterable'], types: [] },
  ],
])('the TypeScript SDK has types for %s', async (_platform, entry, options) => {
  const consumer = mkdtempSync(join(directory, 'consumer-'));
  await installInto(consumer);
  writeFileSync(
    join(consumer, 'program.ts'),
    `
    import { BoxRun, BoxRunError, type Box, type ErrorCode, type ExecEvent } from '${entry}';
    const boxrun = new BoxRun({ url: 'http://localhost:1' });
    const box = await boxrun.create({ image: 'base' });
    const plain: Box = box;
    const size: number | null = (await box.download('/a')).size;
    for await (const event of box.execStream(['ls'])) { const known: ExecEvent = event; if (known.type === 'log') known.bytes satisfies Uint8Array; }
    try { await box.start(); } catch (error) { if (error instanceof BoxRunError) error.code satisfies ErrorCode; }
    // @ts-expect-error An image is needed.
    await boxrun.create({ name: 'a' });
    export { plain, size };
  `,
  );
  const compilerOptions = {
    ...options,
    strict: true,
    noEmit: true,
    target: 'es2023',
    module: 'nodenext',
    exactOptionalPropertyTypes: true,
    typeRoots: [join(root, 'node_modules/@types')],
  };
  writeFileSync(join(consumer, 'package.json'), '{"type": "module"}');
  writeFileSync(join(consumer, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['program.ts'] }));
  const tsc = () =>
    execFileSync(join(root, 'node_modules/typescript/bin/tsc'), ['-p', consumer], { encoding: 'utf8', stdio: 'pipe' });
  expect(tsc()).toBe('');
});
