// Tests heartbeats in event streams on a real server: it sends a comment to an idle stream, and never inside an event.
// Here it sends comments far more often than by default.
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventually } from '../support/runs/eventually.ts';
import { parseSse, startServer, type TestServer } from '../support/servers/server.ts';

const small = { image: 'base', cpu: 1, memory_mb: 64 };
let server: TestServer;
let box: string;

beforeAll(async () => {
  server = await startServer({ env: { BOXRUN_SSE_HEARTBEAT_MS: '20' } });
  box = (await server.client.create(small)).id;
});
afterAll(async () => {
  await server.close();
});

interface Stream {
  readonly incoming: IncomingMessage;
  text(): string;
  close(): void;
}

async function openStream(path: string, headers: Record<string, string> = {}): Promise<Stream> {
  const outgoing = request({ host: '127.0.0.1', port: server.port, path, headers, agent: false });
  outgoing.end();
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage];
  incoming.setEncoding('utf8');
  incoming.on('error', () => undefined);
  let text = '';
  incoming.on('data', (piece: string) => {
    text += piece;
  });
  return {
    incoming,
    text: () => text,
    close: () => {
      outgoing.destroy();
    },
  };
}

const countComments = (text: string) => text.match(/^:/gm)?.length ?? 0;

/** Finds errors in the format. Each event is some lines and one empty line, and comments stand between events. */
function formProblems(text: string): string[] {
  let isInEvent = false;
  return text
    .split('\n')
    .slice(0, -1)
    .flatMap((line, index) => {
      const wasInEvent = isInEvent;
      isInEvent = line !== '' && !line.startsWith(':');
      if (line === '') return wasInEvent ? [] : [`line ${index} is empty, and no event is before it`];
      if (line.startsWith(':')) return wasInEvent ? [`line ${index} is a comment in the midst of an event`] : [];
      return /^(id|event|data): ./.test(line) ? [] : [`line ${index} is no field: ${line.slice(0, 100)}`];
    });
}

/** Starts a command that runs `before`, waits until the file /root/NAME exists, and runs `after`. */
const startSilent = (name: string, before: string, after: string) =>
  server.client.startExec(box, ['sh', '-c', `${before}; while [ ! -e /root/${name} ]; do sleep 0.05; done; ${after}`]);
const endSilence = (name: string) => server.client.exec(box, ['touch', `/root/${name}`]);

it('the output stream of a silent command has comments before and between its events', async () => {
  const exec = await startSilent('spoken', 'sleep 0.2; echo one', 'echo two');
  const path = `/v1/boxes/${box}/exec/${exec.id}/events`;
  const stream = await openStream(path);
  await eventually('it has written', async () => stream.text().includes('one'));
  const resumed = await openStream(path, { 'last-event-id': '0' });
  await eventually('it has been silent', async () => [stream, resumed].every(({ text }) => countComments(text()) > 5));
  await endSilence('spoken');
  await eventually('both have ended', async () => [stream, resumed].every(({ incoming }) => incoming.complete));
  for (const each of [stream, resumed]) expect(formProblems(each.text())).toEqual([]);
  expect(stream.text()).toMatch(/^(: alive\n)+id: 0\n[^\n]+\n[^\n]+\n\n(: alive\n)+id: 1\n/);
  const kinds = parseSse(stream.text()).map(({ id, event }) => [id, event]);
  expect(kinds).toEqual([
    ['0', 'log'],
    ['1', 'log'],
    ['2', 'exit'],
  ]);
  expect(parseSse(resumed.text())).toEqual(parseSse(stream.text()).slice(1));
  expect(resumed.text()).toMatch(/^(: alive\n)+id: 1\n/);
});

it('a slow client of large events gets no comment inside an event', async () => {
  const bytes = 8 * 1024 * 1024;
  const script = `head -c ${bytes} /dev/zero; echo; sleep 0.2; echo end`;
  const exec = await server.client.startExec(box, ['sh', '-c', script]);
  const stream = await openStream(`/v1/boxes/${box}/exec/${exec.id}/events`);
  stream.incoming.pause();
  await server.client.getExec(box, exec.id, { waitS: 30 });
  stream.incoming.resume();
  await eventually('the stream is complete', async () => stream.incoming.complete, 30_000);
  expect(formProblems(stream.text())).toEqual([]);
  const messages = parseSse(stream.text());
  expect(messages.map(({ id }) => Number(id))).toEqual(messages.map((_, index) => index));
  expect(messages.at(-1)?.event).toBe('exit');
});

it('the streams of state events and of usage have comments while they are idle', async () => {
  const [changes, usage] = await Promise.all([openStream('/v1/events'), openStream('/v1/usage')]);
  await eventually('both are idle', async () => [changes, usage].every(({ text }) => countComments(text()) > 5));
  const exec = await server.client.startExec(box, ['true']);
  await eventually('the command is reported', async () =>
    parseSse(changes.text()).some(({ data }) => data.includes(exec.id)),
  );
  const { id = '' } = parseSse(changes.text())[0] ?? {};
  const resumed = await openStream('/v1/events', { 'last-event-id': id ?? '' });
  await eventually('the command is reported again', async () => resumed.text().includes(exec.id));
  await eventually('it is idle', async () => countComments(resumed.text()) > 5);
  for (const each of [changes, usage, resumed]) {
    each.close();
    expect(formProblems(each.text())).toEqual([]);
    expect(each.text()).toContain('\n\n: alive\n: alive\n');
  }
});

it('the streams of a create and of a run have comments between their events', async () => {
  const headers = { accept: 'text/event-stream' };
  const created = await server.call({ method: 'POST', path: '/v1/boxes', body: small, headers });
  const body = { ...small, cmd: ['sh', '-c', 'echo told; sleep 0.5'] };
  const ran = await server.call({ method: 'POST', path: '/v1/run', body, headers });
  for (const { text } of [created, ran]) expect(formProblems(text)).toEqual([]);
  expect(parseSse(created.text).at(-1)).toMatchObject({ id: null, event: 'box' });
  expect(ran.text).toContain('\n\n: alive\n: alive\n');
  expect(
    parseSse(ran.text)
      .slice(-2)
      .map(({ id, event }) => [id, event]),
  ).toEqual([
    ['0', 'log'],
    ['1', 'exit'],
  ]);
});
