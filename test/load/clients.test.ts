// Tests clients that are slow, stuck, idle or many, against a real server: no other client waits for them, no process
// grows, and they get what they missed when they read on. Also tests many creates at once against a small quota.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { collect } from '../support/servers/crash-server.ts';
import { compareLatency, expectBoundedMemory, openStuck, type StuckClient } from '../support/load/load.ts';
import { eventually } from '../support/runs/eventually.ts';
import { parseSse, startServer, type TestServer } from '../support/servers/server.ts';
import { openSocket, type TestSocket } from '../support/servers/web-socket.ts';

const quotaCpu = 22;
let server: TestServer;
let box: string;
let other: string;

beforeAll(async () => {
  server = await startServer({ maxCpu: quotaCpu });
});
beforeEach(async () => {
  for (const name of ['busy', 'other']) {
    await server.client.removeBox(name, { force: true }).catch(() => undefined);
    await server.client.create({ image: 'base', name, cpu: 1, memory_mb: 256 });
  }
  [box, other] = (await Promise.all(['busy', 'other'].map(async (name) => (await server.client.getBox(name)).id))) as [
    string,
    string,
  ];
});
afterAll(async () => {
  await server.close();
});

const short = () => server.client.startExec(other, ['true']);
const eventsPath = (exec: { id: string }) => `/v1/boxes/${box}/exec/${exec.id}/events`;

it('event streams without a reader slow no other client, and give everything when they are read', async () => {
  // The command first prints more than all buffers can hold. Then it prints a little all the time, with and without the
  // load.
  const exec = await server.client.startExec(box, [
    'sh',
    '-c',
    'seq 1 2000000; echo tail; touch /root/much; while sleep 0.02; do echo tick; done',
  ]);
  await eventually(
    'the large output is there',
    async () => (await server.client.exec(box, ['test', '-e', '/root/much'])).exitCode === 0,
  );
  let stuck: StuckClient[] = [];
  const { ratio } = await compareLatency('40 stuck event streams', short, {
    async on() {
      stuck = await Promise.all(Array.from({ length: 40 }, () => openStuck(server.port, eventsPath(exec))));
    },
    async off() {
      for (const client of stuck) client.leave();
      stuck = [];
    },
  });
  const late = await openStuck(server.port, eventsPath(exec));
  await expectBoundedMemory(server.stateDir, '40 stuck event streams');
  await server.client.cancelExec(box, exec.id);
  const messages = parseSse(await late.readAll()).map(({ event, data }) => ({
    event,
    ...(JSON.parse(data) as { data: string; seq: number }),
  }));
  expect(messages.map(({ seq }) => seq)).toEqual(messages.map((_, index) => index));
  expect(messages.at(-1)?.event).toBe('exit');
  const whole = createHash('sha256')
    .update(Array.from({ length: 2_000_000 }, (_, index) => `${index + 1}\n`).join(''))
    .digest('hex');
  const text = messages
    .filter(({ event }) => event === 'log')
    .map(({ data }) => data)
    .join('');
  expect(
    createHash('sha256')
      .update(text.slice(0, text.indexOf('tail\n')))
      .digest('hex'),
  ).toBe(whole);
  expect(ratio).toBeLessThan(1.2);
});

it(
  'terminals without a reader stop their programs, slow no other client, and lose nothing',
  { timeout: 400_000 },
  async () => {
    const lines = 3_000_000; // More than all buffers on the way can hold.
    let terminals: TestSocket[] = [];
    const open = async () => {
      // `seq` needs its path. Otherwise the shell becomes the program, under its own name, and pidof does not find it.
      const terminal = await openSocket(`ws://127.0.0.1:${server.port}/v1/boxes/${box}/attach?shell=/bin/sh`);
      await terminal.until(/# /);
      terminal.type(`$(which seq) 1 ${lines}; echo "e""nd"\n`);
      await terminal.until(/\r\n1\r\n2\r\n/);
      terminal.socket.pause();
      return terminal;
    };
    const writtenBytes = async () => {
      const { stdout } = await server.client.exec(box, [
        'sh',
        '-c',
        'for p in $(pidof seq); do cat /proc/$p/io; done | grep ^wchar',
      ]);
      return [...stdout.matchAll(/\d+/g)].reduce((sum, [bytes]) => sum + Number(bytes), 0);
    };
    const { ratio } = await compareLatency(
      '4 stuck terminals',
      short,
      {
        async on() {
          terminals = await Promise.all(Array.from({ length: 4 }, open));
          let before = -1;
          await eventually(
            'their programs stand still',
            async () => {
              const written = await writtenBytes();
              expect(written).toBeGreaterThan(0);
              const isStill = written === before;
              before = written;
              for (let count = 0; count < 5; count++) await short();
              return isStill;
            },
            60_000,
          );
        },
        async off() {
          for (const { socket } of terminals) socket.terminate();
          terminals = [];
        },
      },
      { rounds: 2, samples: 80 },
    );
    await expectBoundedMemory(server.stateDir, '4 stuck terminals');
    const late = await open();
    const running = async () => (await server.client.exec(box, ['sh', '-c', 'pidof seq | wc -w'])).stdout.trim();
    await short();
    expect(await running()).toBe('1'); // The program waits for its reader.
    late.socket.resume();
    await late.until(/\r\nend\r\n/, 120_000);
    late.socket.close();
    expect(ratio).toBeLessThan(1.2);
  },
);

it('uploads that stall slow no other client, and are complete when they continue', async () => {
  const content = Buffer.alloc(20 * 2 ** 20, 'stalled ');
  const begin = async (name: string): Promise<Socket> => {
    const socket = connect(server.port, '127.0.0.1');
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    const head = `--b\r\ncontent-disposition: form-data; name="dest"\r\n\r\n/data/${name}\r\n--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n`;
    socket.write(
      `POST /v1/boxes/${box}/files/upload HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=b\r\nconnection: close\r\ncontent-length: ${head.length + content.length + 9}\r\n\r\n${head}`,
    );
    socket.write(content.subarray(0, 2 ** 20));
    return socket;
  };
  let uploads: Socket[] = [];
  const { ratio } = await compareLatency(
    '30 stalled uploads',
    short,
    {
      async on() {
        uploads = await Promise.all(Array.from({ length: 30 }, (_, index) => begin(`f${index}`)));
        await eventually(
          'all are under way',
          async () => (await server.client.exec(box, ['sh', '-c', 'ls -A /data | wc -l'])).stdout.trim() === '30',
        );
      },
      async off() {
        for (const socket of uploads) socket.destroy();
        uploads = [];
        await eventually(
          'nothing of them is left',
          async () => (await server.client.exec(box, ['sh', '-c', 'ls -A /data | wc -l'])).stdout.trim() === '0',
        );
      },
    },
    { rounds: 4 },
  );
  await expectBoundedMemory(server.stateDir, '30 stalled uploads');
  const late = await begin('late');
  await eventually(
    'it is under way',
    async () => (await server.client.exec(box, ['sh', '-c', 'ls -A /data | wc -l'])).stdout.trim() === '1',
  );
  await short();
  late.write(content.subarray(2 ** 20));
  late.write('\r\n--b--\r\n');
  const pieces: Buffer[] = [];
  for await (const piece of late) pieces.push(piece as Buffer);
  expect(Buffer.concat(pieces).toString()).toContain('HTTP/1.1 200');
  const { stdout } = await server.client.exec(box, ['sha256sum', '/data/late']);
  expect(stdout.slice(0, 64)).toBe(createHash('sha256').update(content).digest('hex'));
  expect(ratio).toBeLessThan(1.2);
});

it('500 idle event streams slow no other client, and each gets the events that come at last', async () => {
  await server.client.exec(box, ['mkfifo', '/root/gate']);
  const exec = await server.client.startExec(box, ['sh', '-c', 'echo begun; read line </root/gate; echo told; exit 4']);
  let idle: StuckClient[] = [];
  const on = async () => {
    idle = await Promise.all(Array.from({ length: 500 }, () => openStuck(server.port, eventsPath(exec))));
  };
  const { ratio } = await compareLatency(
    '500 idle event streams',
    short,
    {
      on,
      async off() {
        for (const client of idle) client.leave();
        idle = [];
      },
    },
    { rounds: 4 },
  );
  await on();
  await server.client.exec(box, ['sh', '-c', 'echo go >/root/gate']);
  const answers = await Promise.all(idle.map((client) => client.readAll()));
  const told = answers.filter(
    (text) =>
      parseSse(text)
        .map(({ event }) => event)
        .join() === 'log,log,exit' && text.includes('"told\\n"'),
  );
  expect(told).toHaveLength(500);
  await expectBoundedMemory(server.stateDir, '500 idle event streams');
  expect(await collect(server.client, exec)).toMatchObject({ stdout: 'begun\ntold\n', exit: { exitCode: 4 } });
  expect(ratio).toBeLessThan(1.2);
});

it('200 creates at once with a quota for 20 give 20 boxes and 180 clear refusals, and reserve no more', async () => {
  const body = (index: number) => ({ image: 'base', name: `crowd-${index}`, cpu: 1, memory_mb: 64 });
  const crowd = (first: number) =>
    Promise.all(
      Array.from({ length: 200 }, (_, index) =>
        server.call({ method: 'POST', path: '/v1/boxes', body: body(first + index) }),
      ),
    );
  const startedAt = performance.now();
  const answers = await crowd(0);
  console.log(`200 creates: ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
  const made = answers.filter(({ status }) => status === 201);
  expect(made).toHaveLength(20);
  for (const { status, json } of answers.filter((answer) => !made.includes(answer)))
    expect([status, json.code]).toEqual([409, 'RESOURCE_EXCEEDED']);
  expect(await server.client.listBoxes('running')).toHaveLength(quotaCpu);
  expect(await server.client.listBoxes()).toHaveLength(quotaCpu);
  let under: Promise<unknown> = Promise.resolve();
  const { ratio } = await compareLatency(
    '200 creates that are refused, at the beginning of every 100 commands',
    short,
    {
      async on() {
        under = crowd(1_000);
      },
      async off() {
        await under;
      },
    },
    { rounds: 4, samples: 100 },
  );
  await expectBoundedMemory(server.stateDir, '200 creates');
  await Promise.all(made.map(({ json }) => server.client.removeBox(json['id'] as string, { force: true })));
  // The names and the quota are free again.
  const again = await Promise.all(
    Array.from({ length: 20 }, (_, index) => server.call({ method: 'POST', path: '/v1/boxes', body: body(index) })),
  );
  expect(again.map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 201));
  await Promise.all(again.map(({ json }) => server.client.removeBox(json['id'] as string, { force: true })));
  expect(ratio).toBeLessThan(1.2);
});
