// Tests commands over HTTP on a real server: the JSON objects, output streams and how a client resumes them, output,
// cancel, timeouts and errors.
import { request, type IncomingMessage } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Box, Exec } from '../../src/shared/api.ts';
import { parseSse, startServer, type Answer, type SseMessage, type TestServer } from '../support/servers/server.ts';

const execFields = [
  'id',
  'box_id',
  'status',
  'cmd',
  'env',
  'workdir',
  'timeout_ms',
  'exit_code',
  'error_message',
  'created_at',
  'finished_at',
  'usage',
];
let server: TestServer;
let box: Box;
let other: Box;

beforeAll(async () => {
  server = await startServer();
  box = await server.client.create({ image: 'base', name: 'commands', cpu: 1, memory_mb: 256 });
  other = await server.client.create({ image: 'base', cpu: 1, memory_mb: 64 });
});
afterAll(async () => {
  await server.close();
});

const start = (body: unknown, key = box.id) => server.call({ method: 'POST', path: `/v1/boxes/${key}/exec`, body });
const shell = async (script: string, rest: object = {}): Promise<Exec> =>
  (await start({ cmd: ['sh', '-c', script], ...rest })).json as Exec;
const eventsPath = (exec: Pick<Exec, 'id'>, query = '') => `/v1/boxes/${box.id}/exec/${exec.id}/events${query}`;
const events = async (
  exec: Pick<Exec, 'id'>,
  query = '',
  headers: Record<string, string> = {},
): Promise<SseMessage[]> => parseSse((await server.call({ path: eventsPath(exec, query), headers })).text);
const cancel = (exec: Pick<Exec, 'id'>) =>
  server.call({ method: 'POST', path: `/v1/boxes/${box.id}/exec/${exec.id}:cancel` });
const textOf = (messages: readonly SseMessage[], stream: 'stdout' | 'stderr') =>
  messages
    .filter(({ event }) => event === 'log')
    .map(({ data }) => JSON.parse(data) as { stream: string; data: string })
    .filter((value) => value.stream === stream)
    .map((value) => value.data)
    .join('');
const exitOf = (messages: readonly SseMessage[]) => {
  const last = messages.at(-1);
  expect(last?.event).toBe('exit');
  return JSON.parse((JSON.parse(last?.data ?? '{}') as { data: string }).data) as {
    exit_code: number | null;
    error?: string;
  };
};
const finished = async (exec: Pick<Exec, 'id'>): Promise<Exec> => {
  await events(exec);
  return (await server.call({ path: `/v1/boxes/${box.id}/exec/${exec.id}` })).json as Exec;
};

function expectError(answer: Answer, status: number, code: string): void {
  expect({ status: answer.status, code: answer.json.code }).toEqual({ status, code });
}

it.each(['4294967295', '65536', '0:4294967295', 'root:65536', '1:2:3'])(
  'a command with the user %s is refused, because ids in a box end at 65535',
  async (user) => {
    const answer = await start({ cmd: ['id'], user });
    expectError(answer, 422, 'VALIDATION_ERROR');
    expect(answer.json.message).toMatch(/^'user' (has the id|must be)/);
  },
);

it('a command runs with its environment and directory, and the API reports its exit code and output', async () => {
  const answer = await start({
    cmd: ['sh', '-c', 'echo $A; pwd; exit 3'],
    env: { A: 'hello', BOXLITE_X: 'no' },
    workdir: '/tmp',
  });
  expect(answer.status).toBe(201);
  const exec = answer.json as Exec;
  expect(Object.keys(exec).sort()).toEqual([...execFields].sort());
  expect(exec).toMatchObject({ box_id: box.id, env: { A: 'hello' }, workdir: '/tmp', timeout_ms: null });
  const end = await finished(exec);
  expect(end).toMatchObject({ status: 'failed', exit_code: 3, error_message: null });
  expect(end.finished_at).not.toBeNull();
  const messages = await events(exec);
  expect(textOf(messages, 'stdout')).toBe('hello\n/tmp\n');
  expect(exitOf(messages)).toEqual({ exit_code: 3 });
  expect((await server.call({ path: `/v1/boxes/commands/exec/${exec.id}` })).json).toEqual(end);
});

it('the answer to a start can already show the end of a short command', async () => {
  await start({ cmd: ['true'] });
  const statuses = await Promise.all([1, 2, 3].map(async () => (await start({ cmd: ['true'] })).json.status));
  expect(statuses).toContain('succeeded');
});

it('the output stream has exactly the documented format', async () => {
  const exec = await shell('echo hello');
  const answer = await server.call({ path: eventsPath(exec) });
  expect(answer.status).toBe(200);
  expect(answer.headers['content-type']).toMatch(/^text\/event-stream/);
  expect(answer.text).toBe(
    'id: 0\nevent: log\ndata: {"stream":"stdout","data":"hello\\n","seq":0}\n\n' +
      'id: 1\nevent: exit\ndata: {"stream":null,"data":"{\\"exit_code\\":0}","seq":1}\n\n',
  );
});

it('an output stream follows a running command, and resumes after any event', async () => {
  const exec = await shell('for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done');
  expect(exec.status).toBe('running');
  const messages = await events(exec);
  expect(textOf(messages, 'stdout')).toBe('1\n2\n3\n4\n5\n6\n');
  expect(messages.map(({ id }) => Number(id))).toEqual(messages.map((_, index) => index));
  for (const after of [0, 3, messages.length - 2]) {
    expect(await events(exec, `?after=${after}`)).toEqual(messages.slice(after + 1));
    expect(await events(exec, '', { 'last-event-id': String(after) })).toEqual(messages.slice(after + 1));
  }
  const end = { id: null, event: 'end', data: '{}' };
  expect(await events(exec, `?after=${messages.length - 1}`)).toEqual([end]);
  expect(await events(exec, '?after=-1')).toEqual(messages);
  expectError(await server.call({ path: eventsPath(exec, '?after=first') }), 422, 'VALIDATION_ERROR');
});

it('twenty clients that start at different times get the same events', async () => {
  const exec = await shell(
    'i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); [ $((i % 40)) = 0 ] && sleep 0.05; done',
  );
  const streams = await Promise.all(
    Array.from({ length: 20 }, async (_, index) => {
      await new Promise((resolve) => setTimeout(resolve, index * 30));
      return events(exec);
    }),
  );
  const expected = Array.from({ length: 400 }, (_, index) => `line ${index}\n`).join('');
  for (const messages of streams) {
    expect(textOf(messages, 'stdout')).toBe(expected);
    expect(messages).toEqual(streams[0]);
  }
});

it('a client that does not read delays no other client, and gets all output later', { timeout: 60_000 }, async () => {
  const bytes = 24 * 1024 * 1024;
  const exec = await shell(`head -c ${bytes} /dev/zero | tr '\\0' 'x'`);
  const stuck = request({ host: '127.0.0.1', port: server.port, path: eventsPath(exec), agent: false });
  const response = new Promise<IncomingMessage>((resolve) => stuck.once('response', resolve));
  stuck.end();
  const slow = await response; // The test reads it only at the end.
  slow.pause();
  expect(textOf(await events(exec), 'stdout')).toHaveLength(bytes);
  let text = '';
  slow.setEncoding('utf8');
  for await (const piece of slow) text += piece as string;
  const messages = parseSse(text);
  expect(textOf(messages, 'stdout')).toHaveLength(bytes);
  expect(messages.map(({ id }) => Number(id))).toEqual(messages.map((_, index) => index));
});

describe('the output of a command', () => {
  it('has stdout and stderr apart, each in its own order', async () => {
    const messages = await events(await shell('echo a; echo b >&2; echo c; echo d >&2'));
    expect([textOf(messages, 'stdout'), textOf(messages, 'stderr')]).toEqual(['a\nc\n', 'b\nd\n']);
  });

  it('has whole characters, even if the command writes them in pieces', async () => {
    const messages = await events(
      await shell("printf '\\303'; sleep 0.1; printf '\\244 \\360\\237'; sleep 0.1; printf '\\230\\200\\n'"),
    );
    expect(textOf(messages, 'stdout')).toBe('ä 😀\n');
  });

  it('has the exact bytes with encoding=base64, and U+FFFD for invalid UTF-8 without it', async () => {
    const exec = await shell("printf 'a\\377\\000b'");
    expect(textOf(await events(exec), 'stdout')).toBe('a\ufffd\u0000b');
    const [message] = await events(exec, '?encoding=base64');
    const value = JSON.parse(message?.data ?? '{}') as { data_b64: string; stream: string; seq: number };
    expect(Buffer.from(value.data_b64, 'base64')).toEqual(Buffer.from([0x61, 0xff, 0x00, 0x62]));
    expect([value.stream, value.seq]).toEqual(['stdout', 0]);
    expectError(await server.call({ path: eventsPath(exec, '?encoding=hex') }), 422, 'VALIDATION_ERROR');
  });

  it('has no unescaped Unicode line separator, because some clients split lines there', async () => {
    const exec = await shell("printf 'a\\342\\200\\250b\\342\\200\\251c\\302\\205d'");
    const { text } = await server.call({ path: eventsPath(exec) });
    expect(text).toContain('a\\u2028b\\u2029c\\u0085d');
    expect(textOf(parseSse(text), 'stdout')).toBe('a\u2028b\u2029c\u0085d');
  });
});

describe('a command', () => {
  it('ends with 127 when its program does not exist, and 126 when it is not executable', async () => {
    const missing = (await start({ cmd: ['no-such-command'] })).json as Exec;
    expect(await finished(missing)).toMatchObject({ status: 'failed', exit_code: 127 });
    expect(textOf(await events(missing), 'stderr')).not.toBe('');
    const exec = (await start({ cmd: ['/etc/passwd'] })).json as Exec;
    expect(await finished(exec)).toMatchObject({ status: 'failed', exit_code: 126 });
  });

  it('ends with 128 + n when signal n kills it', async () => {
    expect(await finished(await shell('kill -TERM $$'))).toMatchObject({ status: 'failed', exit_code: 143 });
  });

  it('fails with a message when its working directory is missing', async () => {
    const exec = (await start({ cmd: ['pwd'], workdir: '/no/such/dir' })).json as Exec;
    expect((await finished(exec)).status).toBe('failed');
    expect(textOf(await events(exec), 'stderr')).toContain('/no/such/dir');
  });
});

it('a cancel kills all processes of a command and ends its streams, and a second cancel fails', async () => {
  const exec = await shell('(setsid sleep 300 &) ; sleep 300 & echo started; wait');
  const following = events(exec);
  await expect
    .poll(async () => (await server.call({ path: `/v1/boxes/${box.id}/exec/${exec.id}` })).json.status)
    .toBe('running');
  const answer = await cancel(exec);
  expect(answer.status).toBe(200);
  expect(answer.json).toMatchObject({ id: exec.id, status: 'canceled' });
  expect(exitOf(await following)).toHaveProperty('error');
  expectError(await cancel(exec), 400, 'EXEC_ALREADY_FINISHED');
  const left = await shell('ps | grep -c "[s]leep 300"');
  expect(textOf(await events(left), 'stdout')).toBe('0\n');
});

it('a command ends at its timeout', async () => {
  const exec = await shell('sleep 300', { timeout_ms: 300 });
  const end = await finished(exec);
  expect(end.status).toBe('failed');
  expect(end.error_message).toContain('timed out');
  expect(exitOf(await events(exec)).error).toContain('timed out');
});

it('a command ends soon after its first process, even if background children keep its output open', async () => {
  const startedAt = Date.now();
  const exec = await shell('sleep 20 & echo leader');
  expect(await finished(exec)).toMatchObject({ status: 'succeeded', exit_code: 0 });
  expect(Date.now() - startedAt).toBeLessThan(5_000);
});

it('a process in the background may write to its output after its command has ended', async () => {
  // Without a reader the second line would kill it by SIGPIPE, and nothing would be in the file.
  const exec = await shell(
    '(while [ ! -e /root/go ]; do sleep 0.1; done; echo one; sleep 0.1; echo two; echo here > /root/wrote) & echo up',
  );
  await finished(exec);
  await finished(await shell('touch /root/go'));
  const wrote = await shell('for n in $(seq 100); do [ -s /root/wrote ] && break; sleep 0.1; done; cat /root/wrote');
  expect(textOf(await events(wrote), 'stdout')).toBe('here\n');
});

it('the list of the commands of a box begins with the newest', async () => {
  const list = (await server.call({ path: '/v1/boxes/commands/execs' })).list as Exec[];
  expect(list.length).toBeGreaterThan(10);
  expect(list.map(({ created_at }) => created_at)).toEqual(
    list
      .map(({ created_at }) => created_at)
      .sort()
      .reverse(),
  );
  expect(Object.keys(list[0] ?? {}).sort()).toEqual([...execFields].sort());
});

describe('the API of commands', () => {
  it('finds a command only in its own box', async () => {
    const exec = await shell('echo mine');
    expectError(await server.call({ path: `/v1/boxes/${other.id}/exec/${exec.id}` }), 404, 'EXEC_NOT_FOUND');
    expectError(await server.call({ path: `/v1/boxes/${other.id}/exec/${exec.id}/events` }), 404, 'EXEC_NOT_FOUND');
    const foreign = await server.call({ method: 'POST', path: `/v1/boxes/${other.id}/exec/${exec.id}:cancel` });
    expectError(foreign, 404, 'EXEC_NOT_FOUND');
    expectError(await server.call({ path: `/v1/boxes/${box.id}/exec/exec_abcdefghijkl` }), 404, 'EXEC_NOT_FOUND');
  });

  it('answers with an error when the box does not exist or does not run', async () => {
    expectError(await start({ cmd: ['true'] }, 'nobody'), 404, 'BOX_NOT_FOUND');
    expectError(await server.call({ path: '/v1/boxes/nobody/execs' }), 404, 'BOX_NOT_FOUND');
    expectError(await server.call({ path: '/v1/boxes/nobody/exec/exec_abcdefghijkl' }), 404, 'BOX_NOT_FOUND');
    await server.call({ method: 'POST', path: `/v1/boxes/${other.id}:stop` });
    expectError(await start({ cmd: ['true'] }, other.id), 400, 'BOX_NOT_RUNNING');
  });

  it.each([
    ['no command', {}],
    ['an empty command', { cmd: [] }],
    ['a command that is a text', { cmd: 'ls' }],
    ['an argument with a NUL', { cmd: ['a\u0000b'] }],
    ['a timeout of 0', { cmd: ['true'], timeout_ms: 0 }],
    ['a timeout as text', { cmd: ['true'], timeout_ms: '5' }],
    ['a relative workdir', { cmd: ['true'], workdir: 'tmp' }],
    ['an empty environment key', { cmd: ['true'], env: { '': 'x' } }],
  ])('refuses %s', async (_, body) => {
    expectError(await start(body), 422, 'VALIDATION_ERROR');
  });

  it('refuses an unknown action', async () => {
    const exec = await shell('true');
    const answer = await server.call({ method: 'POST', path: `/v1/boxes/${box.id}/exec/${exec.id}:pause` });
    expectError(answer, 400, 'VALIDATION_ERROR');
    expectError(
      await server.call({ method: 'POST', path: `/v1/boxes/${box.id}/exec/${exec.id}` }),
      400,
      'VALIDATION_ERROR',
    );
  });
});
