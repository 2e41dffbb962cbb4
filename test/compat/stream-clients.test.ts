// Tests output streams of a real server with clients of other projects. Each client gets every event once and in order.
// The server sends a comment whenever a stream is silent for 25 ms. docs/api.md lists more clients, tried by hand.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { createInterface } from 'node:readline';
import { EventSourceParserStream } from 'eventsource-parser/stream';
import { EventSource, fetch } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/runs/eventually.ts';
import { parseSse, startServer, type TestServer } from '../support/servers/server.ts';

interface Message {
  readonly id: string;
  readonly event: string;
  readonly data: string;
}

type Headers = Record<string, string>;
type OnMessage = (message: Message) => void;
/** Reads a stream to its exit event, and passes each message to `onMessage`. */
type Client = (url: string, headers: Headers, onMessage: OnMessage) => Promise<void>;

let server: TestServer;
let box: string;
beforeAll(async () => {
  server = await startServer({ env: { BOXRUN_SSE_HEARTBEAT_MS: '25' } });
  box = (await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 })).id;
});
afterAll(async () => {
  await server.close();
});

async function viaParser(url: string, headers: Headers, onMessage: OnMessage): Promise<void> {
  const { body } = await fetch(url, { headers });
  if (body === null) throw new Error('the answer has no body');
  const parser = new EventSourceParserStream({ onError: 'terminate' });
  const messages = body.pipeThrough(new TextDecoderStream()).pipeThrough(parser);
  for await (const { id = '', event = '', data } of messages) onMessage({ id, event, data });
}

async function viaEventSource(url: string, _headers: Headers, onMessage: OnMessage): Promise<void> {
  const source = new EventSource(url);
  await new Promise<void>((resolve, reject) => {
    for (const kind of ['log', 'exit', 'message'] as string[]) {
      source.addEventListener(kind, (message) => {
        const { lastEventId, data } = message as unknown as { lastEventId: string; data: string };
        onMessage({ id: lastEventId, event: kind, data });
        if (kind === 'exit') resolve();
      });
    }
    source.addEventListener('error', () => {
      reject(new Error('the EventSource lost its connection'));
    });
  });
  source.close();
}

async function viaCurl(url: string, headers: Headers, onMessage: OnMessage): Promise<void> {
  const options = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
  const curl = spawn('curl', ['-sfN', ...options, url], { stdio: ['ignore', 'pipe', 'inherit'] });
  const closed = once(curl, 'close');
  let text = '';
  let given = 0;
  for await (const piece of curl.stdout.setEncoding('utf8')) {
    text += piece as string;
    const messages = parseSse(text);
    for (const { id, event, data } of messages.slice(given)) onMessage({ id: id ?? '', event: event ?? '', data });
    given = messages.length;
  }
  expect(await closed).toEqual([0, null]);
}

/** A client that only reads lines. Like bufio.Scanner of Go, it refuses lines of 64 KiB and more. */
async function viaLines(url: string, headers: Headers, onMessage: OnMessage): Promise<void> {
  const { body } = await fetch(url, { headers });
  if (body === null) throw new Error('the answer has no body');
  let id = '';
  let event = '';
  for await (const line of createInterface({ input: Readable.fromWeb(body) })) {
    if (Buffer.byteLength(line) >= 64 * 1024) throw new Error(`a line of ${Buffer.byteLength(line)} bytes`);
    if (line.startsWith('id: ')) id = line.slice('id: '.length);
    if (line.startsWith('event: ')) event = line.slice('event: '.length);
    if (line.startsWith('data: ')) onMessage({ id, event, data: line.slice('data: '.length) });
  }
}

const clients: readonly [string, Client][] = [
  ['eventsource-parser', viaParser],
  ['the EventSource of undici', viaEventSource],
  ['curl -N', viaCurl],
  ['a client that reads lines', viaLines],
];

const valueOf = ({ data }: Message) => JSON.parse(data) as { stream: string | null; data: string; data_b64?: string };
const textOf = (messages: readonly Message[]) =>
  messages
    .filter(({ event }) => event === 'log')
    .map((message) => valueOf(message).data)
    .join('');

function expectWhole(messages: readonly Message[], firstId = 0): void {
  expect(messages.map(({ id }) => id)).toEqual(messages.map((_, index) => String(firstId + index)));
  expect(messages.map(({ event }) => event)).toEqual([...messages.slice(1).map(() => 'log'), 'exit']);
  expect(valueOf(messages.at(-1) as Message)).toMatchObject({ stream: null, data: '{"exit_code":0}' });
}

const urlOf = (execId: string, query = '') =>
  `http://127.0.0.1:${server.port}/v1/boxes/${box}/exec/${execId}/events${query}`;

/** Reads the same stream, and resolves after five comments. */
async function silence(url: string): Promise<void> {
  let text = '';
  for await (const piece of (await fetch(url)).body ?? []) {
    text += Buffer.from(piece).toString();
    if (text.split(': alive\n').length > 5) return;
  }
  throw new Error('the stream has ended');
}

const run = async (script: string) => {
  const exec = await server.client.startExec(box, ['sh', '-c', script]);
  return server.client.getExec(box, exec.id, { waitS: 30 });
};

describe.each(clients)('%s', (name, client) => {
  it('follows a command that is silent', async () => {
    const file = `/root/${name.replaceAll(' ', '-')}`;
    const odd = '\ufeffa\u2028b\u2029c\u0085d\v\f\u001c\r\ne\rf\u0000g\n\ndata: 😀:\n';
    const octal = [...Buffer.from(odd)].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
    const script = `printf '${octal}'; while [ ! -e ${file} ]; do sleep 0.05; done; echo end`;
    const exec = await server.client.startExec(box, ['sh', '-c', script]);
    const messages: Message[] = [];
    const followed = client(urlOf(exec.id), {}, (message) => messages.push(message));
    const resumed: Message[] = [];
    const canResume = client !== viaEventSource; // An EventSource sends an id only after a lost connection.
    const resume = () => client(urlOf(exec.id), { 'last-event-id': '0' }, (message) => resumed.push(message));
    const followedAgain = canResume ? resume() : null;
    await eventually('the first event has come', async () => messages.length === 1);
    await silence(urlOf(exec.id));
    await server.client.exec(box, ['touch', file]);
    await Promise.all([followed, followedAgain]);
    expectWhole(messages);
    expect(textOf(messages)).toBe(`${odd}end\n`);
    if (canResume) expect(resumed).toEqual(messages.slice(1));
  });

  it('reads 300 kB of text, and 300 kB of bytes as base64', async () => {
    const line = 'a line as "programs" write it\\t\u00e4';
    const exec = await run(`yes '${line}' | head -n 10000`);
    const messages: Message[] = [];
    await client(urlOf(exec.id), {}, (message) => messages.push(message));
    expectWhole(messages);
    expect(textOf(messages)).toBe(`${line}\n`.repeat(10_000));
    const bytes = await run('head -c 300000 /dev/urandom | tee /root/random; sha256sum /root/random >&2');
    const coded: Message[] = [];
    await client(urlOf(bytes.id, '?encoding=base64'), {}, (message) => coded.push(message));
    expectWhole(coded);
    const sent = (name: string) => {
      const values = coded.map(valueOf).filter(({ stream }) => stream === name);
      return Buffer.concat(values.map(({ data_b64: text = '' }) => Buffer.from(text, 'base64')));
    };
    expect(sent('stdout')).toHaveLength(300_000);
    expect(sent('stderr').toString()).toContain(createHash('sha256').update(sent('stdout')).digest('hex'));
  });
});
