// Tests the SDK for browsers against a real server. The SDK is bundled with the `browser` condition, and runs in a
// realm that has only the globals of the web. The tests of the dashboard use a real browser.
import { build } from 'esbuild';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createContext, runInContext } from 'node:vm';
import { WebSocket } from 'undici';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startServer, type TestServer } from '../support/servers/server.ts';
import { installInto } from './program.ts';

let server: TestServer;
let directory: string;
beforeAll(async () => {
  server = await startServer();
  directory = await mkdtemp(join(tmpdir(), 'boxrun-browser-'));
  await installInto(directory);
});
afterAll(async () => {
  await server.close();
  await rm(directory, { recursive: true, force: true });
});

/** Bundles `body` and the SDK into a script for browsers. `body` can use `sdk`, and its return value is the result. */
async function bundle(body: string, from = 'boxrun/sdk'): Promise<{ script: string; inputs: string[] }> {
  const entry = join(directory, 'page.js');
  await writeFile(entry, `import * as sdk from '${from}';\nglobalThis.result = (async () => {${body}})();\n`);
  const { outputFiles, metafile } = await build({
    entryPoints: [entry],
    bundle: true,
    platform: 'browser',
    format: 'iife',
    target: 'es2022',
    write: false,
    metafile: true,
    logLevel: 'error',
  });
  return { script: outputFiles[0]?.text ?? '', inputs: Object.keys(metafile.inputs) };
}

/** Runs `script` in a realm that has only those globals of browsers that the SDK may use. */
async function runPage(script: string): Promise<unknown> {
  const page = createContext({
    AbortController,
    AbortSignal,
    Blob,
    ReadableStream,
    Response,
    TextDecoder,
    TextEncoder,
    URL,
    URLSearchParams,
    WebSocket,
    atob,
    clearTimeout,
    crypto,
    fetch,
    setTimeout,
    location: { origin: `http://127.0.0.1:${server.port}` },
  });
  runInContext(script, page);
  const result = page['result'] as Promise<unknown>;
  // An error of that realm is not an instance of Error here, so it is wrapped.
  return JSON.parse(
    JSON.stringify(
      await result.catch((error: unknown) => {
        throw new Error(`the page failed: ${String(error)}`);
      }),
    ),
  );
}

it('the SDK for browsers has no import and no global of Node', async () => {
  for (const from of ['boxrun/sdk', 'boxrun/sdk/browser']) {
    const { script, inputs } = await bundle('return sdk.BoxRun.name', from);
    expect(inputs.filter((path) => !path.endsWith('page.js')).map((path) => path.split('/').pop())).toEqual([
      'sdk-browser.js',
    ]);
    expect(script).not.toMatch(/\bBuffer\b|\bprocess\b|\brequire\b|node:|undici/);
    console.log(`The SDK in a page: ${(script.length / 1024).toFixed(0)} KB before minification`);
    expect(await runPage(script)).toBe('BoxRun');
  }
});

it('the SDK runs commands, streams output and reports errors with only the globals of the web', async () => {
  const { script } = await bundle(`
    const boxrun = new sdk.BoxRun();
    const box = await boxrun.create({ image: 'base', cpu: 1, memory_mb: 64 });
    const { stdout, exitCode } = await box.exec(['sh', '-c', 'echo ä; exit 2']);
    const events = [];
    for await (const event of box.execStream(['sh', '-c', 'echo one; sleep 0.1; echo two'])) events.push(event.text ?? event.exitCode);
    const code = await boxrun.getBox('nobody').catch((error) => [error instanceof sdk.BoxRunError, error.code]);
    const abort = new AbortController();
    const aborting = box.exec(['sleep', '100'], { signal: abort.signal }).catch((error) => error.code);
    while ((await box.listExecs())[0].status !== 'running') await new Promise((resolve) => setTimeout(resolve, 20));
    abort.abort();
    const aborted = await aborting;
    const [last] = await box.listExecs();
    await box.remove({ force: true });
    await boxrun.close();
    const closed = await boxrun.info().catch((error) => error.code);
    return { stdout, exitCode, events, code, aborted, last: last.status, closed };
  `);
  expect(await runPage(script)).toEqual({
    stdout: 'ä\n',
    exitCode: 2,
    events: ['one\n', 'two\n', 0],
    code: [true, 'BOX_NOT_FOUND'],
    aborted: 'CANCELED',
    last: 'canceled',
    closed: 'CANCELED',
  });
});

it('the SDK uploads and downloads files with only the globals of the web', async () => {
  const { script } = await bundle(`
    const boxrun = new sdk.BoxRun();
    const box = await boxrun.create({ image: 'base', cpu: 1, memory_mb: 64 });
    const encoder = new TextEncoder();
    const texts = [];
    const sources = [new Blob(['a blob']), encoder.encode('bytes'), new Blob(['a stream']).stream()];
    for (const source of sources) {
      await box.upload(source, '/root/file');
      texts.push(await (await box.download('/root/file')).text());
    }
    const local = await box.upload('/etc/hostname', '/root/file').catch((error) => error.code);
    const code = await box.download('/root/nothing').catch((error) => error.code);
    await box.remove({ force: true });
    await boxrun.close();
    return { texts, local, code };
  `);
  expect(await runPage(script)).toEqual({
    texts: ['a blob', 'bytes', 'a stream'],
    local: 'VALIDATION_ERROR',
    code: 'RUNTIME_ERROR',
  });
});

it('the SDK opens terminals with only the globals of the web', async () => {
  const { script } = await bundle(`
    const boxrun = new sdk.BoxRun();
    const box = await boxrun.create({ image: 'base', cpu: 1, memory_mb: 64 });
    const terminal = await box.attach({ shell: '/bin/sh', cols: 91, rows: 31 });
    await terminal.write('stty size; exit 5\\n');
    const text = await new Response(terminal.output).text();
    const { exitCode } = await terminal.exited;
    await box.remove({ force: true });
    await boxrun.close();
    return { hasSize: text.includes('31 91'), exitCode };
  `);
  expect(await runPage(script)).toEqual({ hasSize: true, exitCode: 5 });
});
