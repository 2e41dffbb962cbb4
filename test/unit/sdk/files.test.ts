// Uploads and downloads: the multipart form, each kind of source, streaming in both directions, and lost connections.
import { readFileSync, writeFileSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { UploadSource } from '../../../src/sdk/index.ts';
import { controlledPromise, temporaryDirectory } from '../../support/runs/unit.ts';
import { bodyOf, serve } from './setup.ts';

/** The parts of a multipart form by name, in their order in the request. */
function partsOf(body: Buffer, contentType: string | undefined): [string, string][] {
  const boundary = /boundary=(.*)$/.exec(contentType ?? '')?.[1] ?? '';
  return body
    .toString('latin1')
    .split(`--${boundary}`)
    .slice(1, -1)
    .map((part) => {
      const [head = '', ...content] = part.replace(/^\r\n|\r\n$/g, '').split('\r\n\r\n');
      return [/name="(\w+)"/.exec(head)?.[1] ?? '', Buffer.from(content.join('\r\n\r\n'), 'latin1').toString()];
    });
}

const bytes = new TextEncoder().encode('content\r\n--x--');
async function* pieces() {
  yield bytes.subarray(0, 3);
  yield bytes.subarray(3);
}
const sources: Record<string, (directory: string) => UploadSource> = {
  bytes: () => bytes,
  'a Blob': () => new Blob([bytes]),
  'an iterable': () => pieces(),
  'a stream': () => new Blob([bytes]).stream(),
  'a local file': (directory) => {
    writeFileSync(join(directory, 'file'), bytes);
    return join(directory, 'file');
  },
};

it.each(Object.keys(sources))('uploads %s as a form, with the destination first', async (name) => {
  const asked = controlledPromise<[string | undefined, [string, string][]]>();
  const client = await serve((request, response) => {
    void bodyOf(request).then((body) => {
      asked.resolve([request.url, partsOf(body, request.headers['content-type'])]);
      response.end('{"ok":true}');
    });
  });
  await client.upload('web', sources[name]?.(temporaryDirectory()) ?? '', '/root/ü "x"\n');
  expect(await asked.promise).toEqual([
    '/v1/boxes/web/files/upload',
    [
      ['dest', '/root/ü "x"\n'],
      ['file', 'content\r\n--x--'],
    ],
  ]);
});

it('streams an upload while its source is read', async () => {
  const more = controlledPromise<void>();
  const client = await serve((request, response) => {
    request.on('data', (piece: Buffer) => {
      if (piece.includes('first')) more.resolve();
    });
    request.on('end', () => response.end('{"ok":true}'));
  });
  async function* slow() {
    yield new TextEncoder().encode('first');
    await more.promise; // Resolves only when the server has the beginning.
    yield new TextEncoder().encode('second');
  }
  await client.upload('web', slow(), '/root/file');
});

it('fails with VALIDATION_ERROR when the local file cannot be read', async () => {
  const client = await serve((request, response) => {
    void bodyOf(request).then(
      () => response.end('{}'),
      () => undefined,
    );
  });
  await expect(client.upload('web', join(temporaryDirectory(), 'missing'), '/root/file')).rejects.toMatchObject({
    code: 'VALIDATION_ERROR',
    cause: { code: 'ENOENT' },
  });
});

it('downloads as bytes, as text, as a stream, and to a file that appears when it is complete', async () => {
  const client = await serve((request, response) => {
    void bodyOf(request).then((body) =>
      response.setHeader('content-length', 7).end(body.includes('/root/ü') ? 'content' : ''),
    );
  });
  const download = () => client.download('web', '/root/ü');
  expect((await download()).size).toBe(7);
  expect(await (await download()).text()).toBe('content');
  expect(Buffer.from(await (await download()).bytes()).toString()).toBe('content');
  expect(await new Response((await download()).body).text()).toBe('content');
  const path = join(temporaryDirectory(), 'a/b/file');
  await (await download()).saveTo(path);
  expect(readFileSync(path, 'utf8')).toBe('content');
});

it('fails if the connection is lost during a download, and leaves no file', async () => {
  const client = await serve((_request, response) => {
    response.write('half');
    setImmediate(() => response.destroy());
  });
  const directory = temporaryDirectory();
  const download = await client.download('web', '/root/file');
  expect(download.size).toBeNull();
  await expect(download.saveTo(join(directory, 'file'))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(existsSync(join(directory, 'file'))).toBe(false);
  expect(readdirSync(directory)).toEqual([]);
});

it('ends a download when its signal aborts', async () => {
  const client = await serve((_request, response) => {
    response.write('half');
  });
  const controller = new AbortController();
  const { body } = await client.download('web', '/root/file', { signal: controller.signal });
  const reader = body.getReader();
  await reader.read();
  controller.abort();
  await expect(reader.read()).rejects.toMatchObject({ code: 'CANCELED' });
});
