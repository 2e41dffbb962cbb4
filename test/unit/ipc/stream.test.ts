// Tests streams of bytes over a real socket: their order, their back-pressure, the difference between an end and a
// death, and invalid frames.
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { encodeBytesHead, encodeFrame } from '../../../src/shared/ipc/frame.ts';
import { acceptStream, openStream, type ByteStream } from '../../../src/shared/ipc/stream.ts';
import { connectTo } from '../../../src/shared/ipc/socket.ts';
import { limits } from '../../../src/shared/limits.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';

async function listening(onSocket: (socket: Socket) => void): Promise<string> {
  const path = join(temporaryDirectory(), 's');
  const server: Server = createServer(onSocket);
  await new Promise<void>((resolve) => server.listen(path, resolve));
  onTestFinished(() => {
    server.close();
  });
  return path;
}

async function pair(): Promise<{ client: ByteStream; server: ByteStream; token: string }> {
  let accepted: Promise<{ token: string; stream: ByteStream }> | null = null;
  const path = await listening((socket) => {
    accepted = acceptStream(socket);
  });
  const client = await openStream(path, 'tok');
  await eventually('the server has it', () => accepted !== null);
  const { token, stream } = await (accepted as unknown as Promise<{ token: string; stream: ByteStream }>);
  onTestFinished(() => {
    client.close();
    stream.close();
  });
  return { client, server: stream, token };
}

it('a stream passes bytes and control messages in order, and then the end', async () => {
  const { client, server, token } = await pair();
  expect(token).toBe('tok');
  await client.send(Buffer.from('one'));
  await client.control({ type: 'eof' });
  await client.end();
  expect(Buffer.from(((await server.next()) as { bytes: Uint8Array }).bytes).toString()).toBe('one');
  expect(await server.next()).toEqual({ control: { type: 'eof' } });
  expect(await server.next()).toBeNull();
  expect(await server.next()).toBeNull();
  await server.send(Buffer.from('back'));
  expect(await client.next()).toMatchObject({ bytes: expect.anything() as unknown });
});

it('a stream passes long pieces on in parts, and sends no more than the other side reads', async () => {
  const { client, server } = await pair();
  const total = 32 * limits.streamPieceBytesMax;
  let isSent = false;
  const sending = client.send(Buffer.alloc(total, 7)).then(() => {
    isSent = true;
  });
  const first = (await server.next()) as { bytes: Uint8Array };
  expect(first.bytes.length).toBeLessThanOrEqual(limits.streamPieceBytesMax);
  expect(isSent).toBe(false);
  let got = first.bytes.length;
  while (got < total) got += ((await server.next()) as { bytes: Uint8Array }).bytes.length;
  await sending;
  expect(got).toBe(total);
});

it('a stream reports the death of the other side as an error and not as an end', async () => {
  const { client, server } = await pair();
  await client.send(Buffer.from('half'));
  client.finish();
  await server.next();
  await expect(server.next()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  await expect(server.send(Buffer.alloc(10_000_000))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});

it('a stream passes on the error of the other side', async () => {
  const { client, server } = await pair();
  await server.fail(new BoxRunError('BOX_NOT_RUNNING', 'it stopped'));
  await expect(client.next()).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING', message: 'it stopped' });
});

it('a stream is refused if it starts with an invalid frame or one that is too long', async () => {
  for (const rubbish of [
    Buffer.from([0, 0, 0, 1, 0xc1]),
    Buffer.from([0x7f, 0xff, 0xff, 0xff]),
    Buffer.from([0, 0, 0, 1, 5]),
  ]) {
    const outcomes: Promise<unknown>[] = [];
    const path = await listening((socket) => {
      outcomes.push(acceptStream(socket).catch((error: unknown) => error));
    });
    const socket = await connectTo(path);
    onTestFinished(() => {
      socket.destroy();
    });
    socket.write(rubbish);
    await eventually('it is accepted', () => outcomes.length === 1);
    expect(await outcomes[0]).toMatchObject({ code: 'UNAVAILABLE' });
  }
});

it('a stream keeps the order of bytes and messages, and understands bytes of an earlier version', async () => {
  let accepted: ReturnType<typeof acceptStream> | null = null;
  const path = await listening((socket) => {
    accepted = acceptStream(socket);
  });
  const socket = await connectTo(path);
  onTestFinished(() => {
    socket.destroy();
  });
  const ofEarlierVersion = (count: number, value: number) => encodeFrame(['data', Buffer.alloc(count, value)]);
  const frames = [
    encodeFrame(['open', 'tok']),
    encodeFrame(['control', 'first']),
    ...[encodeBytesHead(100_000), Buffer.alloc(100_000, 1)],
    ...[ofEarlierVersion(300, 2), ofEarlierVersion(70_000, 3), encodeBytesHead(0)],
    ...[encodeBytesHead(1), Buffer.alloc(1, 5)],
    encodeFrame(['control', 'last']),
    encodeFrame(['end']),
  ];
  socket.write(Buffer.concat(frames));
  await eventually('the server has it', () => accepted !== null);
  const { stream } = await (accepted as unknown as ReturnType<typeof acceptStream>);
  const seen: unknown[] = [];
  for (let item = await stream.next(); item !== null; item = await stream.next()) {
    if ('control' in item) seen.push(item.control);
    else for (const value of item.bytes) if (seen.at(-1) !== value) seen.push(value);
  }
  expect(seen).toEqual(['first', 1, 2, 3, 5, 'last']);
});
