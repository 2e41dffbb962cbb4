// Tests streams of bytes over a real socket: their order, their back-pressure, the difference between an end and a
// death, and invalid frames.
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { createFrameDecoder, encodeFrame } from '../../../src/shared/ipc/frame.ts';
import { createStreamDecoder, dataHead } from '../../../src/shared/ipc/stream-frames.ts';
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

it('a stream cuts long pieces, and sends no more than the other side reads', async () => {
  const { client, server } = await pair();
  const total = 32 * limits.streamPieceBytesMax;
  let isSent = false;
  const sending = client.send(Buffer.alloc(total, 7)).then(() => {
    isSent = true;
  });
  const first = (await server.next()) as { bytes: Uint8Array };
  expect(first.bytes.length).toBeLessThanOrEqual(limits.streamSendBytes);
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

describe('the frames of a stream', () => {
  const max = 1_000;
  const messages = [['open', 't'], ['data', Buffer.from('some bytes')], ['control', { type: 'eof' }], ['end']];

  it.each([1, 2, 7, 1_000])('are the same messages when they come in pieces of %i bytes', (pieceBytes) => {
    const frames = Buffer.concat([...messages.map(encodeFrame), dataHead(3), Buffer.from('new')]);
    const decode = createStreamDecoder(max);
    const got: unknown[] = [];
    let data = '';
    for (let at = 0; at < frames.length; at += pieceBytes)
      for (const message of decode(frames.subarray(at, at + pieceBytes)))
        if (Array.isArray(message) && message[0] === 'data') data += String(message[1]);
        else got.push(message);
    expect(got).toEqual(messages.filter(([kind]) => kind !== 'data'));
    expect(data).toBe('some bytesnew');
  });

  it('can be read by a process of the version before', () => {
    const [message] = createFrameDecoder(max)(Buffer.concat([dataHead(3), Buffer.from('new')])) as [unknown[]];
    expect([message[0], String(message[1])]).toEqual(['data', 'new']);
  });

  it('that are too long are refused', () => {
    expect(() => createStreamDecoder(max)(Buffer.from([0, 0, 4, 0]))).toThrow('announced');
  });

  it('a message whose count of bytes does not fit its frame is refused', () => {
    const head = dataHead(3);
    head.writeUInt32BE(4, 11);
    expect(() => createStreamDecoder(max)(head)).toThrow('without its bytes');
  });
});
