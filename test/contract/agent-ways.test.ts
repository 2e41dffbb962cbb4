// Tests commands and terminals on the two ways of a container: with the agent in the box, and without it. Both have a
// server of their own, because the way is a setting of the server.
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { getLocal } from '../support/servers/local-http.ts';
import { parsePrometheus, sumOf } from '../support/load/prometheus.ts';
import { eventually } from '../support/runs/eventually.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';
import { openSocket } from '../support/servers/web-socket.ts';

const ways = [
  { setting: 'always', agent: { way: 'socket', reason: null }, text: null },
  { setting: 'off', agent: { way: 'none', reason: 'off' }, text: 'without the agent: the agent is switched off' },
] as const;

describe.each(ways)('with BOXRUN_AGENT=$setting', ({ setting, agent, text }) => {
  let server: TestServer;
  let box: string;

  beforeAll(async () => {
    server = await startServer({ env: { BOXRUN_AGENT: setting } });
    box = (await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 })).id;
  });
  afterAll(async () => {
    await server.close();
  });

  const boxrun = async (...args: string[]) =>
    (await promisify(execFile)(process.execPath, [cliBundle, ...args], { env: server.env })).stdout;

  it('the API, inspect, metrics, usage and doctor say which way commands take, and why', async () => {
    await server.client.exec(box, ['true']);
    expect((await server.client.boxStats(box)).agent).toEqual(agent);
    expect(JSON.parse(await boxrun('inspect', box))).toMatchObject([{ id: box, agent }]);
    const { text: metrics } = await getLocal(server.stateDir, '/metrics');
    const samples = parsePrometheus(metrics);
    expect(sumOf(samples, 'boxrun_boxes_by_agent_way', `"${agent.way}"`)).toBe(1);
    expect(sumOf(samples, 'boxrun_boxes_by_agent_way')).toBe(1);
    for await (const { boxes } of server.client.usage({ signal: AbortSignal.timeout(30_000) }))
      if (boxes[box]?.agent?.way === agent.way) break;
    // The probe of the other driver takes long, so `doctor` is asked once.
    if (text !== null)
      expect(await boxrun('doctor', '--driver', 'container')).toContain(`commands of 1 running boxes: ${text}`);
  });

  it('inspect of a stopped box names no way', async () => {
    const { id } = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    await server.client.stopBox(id);
    expect(JSON.parse(await boxrun('inspect', id))).toMatchObject([{ id, agent: null }]);
  });

  const startTerminal = (script: string) =>
    server.client.startExec(box, { cmd: ['sh', '-c', script], tty: true, detachable: true });
  const attach = (exec: string) => openSocket(`ws://127.0.0.1:${server.port}/v1/boxes/${box}/exec/${exec}/attach`);

  it('a detachable terminal goes on when its client leaves, and the next client gets its newest output', async () => {
    // The lines before the last ones have more bytes than the scrollback.
    const exec = await startTerminal('seq 100000 199999; echo filled; read a; echo "got $a"; read b; exit 7');
    expect(exec.detachable).toBe(true);
    const first = await attach(exec.id);
    await first.until(/filled\r\n/, 60_000);
    first.socket.terminate();
    const second = await attach(exec.id);
    const third = await attach(exec.id);
    const shown = await second.until(/^[^]*filled\r\n/);
    expect(shown).toMatch(/199998\r\n199999\r\nfilled\r\n$/);
    expect(shown.length).toBeLessThanOrEqual(256 * 1024);
    expect(shown.length).toBeGreaterThan(150 * 1024);
    second.type('one\n');
    await second.until(/got one\r\n/);
    await third.until(/got one\r\n/);
    second.socket.terminate();
    third.type('two\n');
    await third.closed;
    expect(third.controls).toEqual([{ type: 'exit', code: 7 }]);
    expect(await server.client.getExec(box, exec.id)).toMatchObject({ exit_code: 7, detachable: true });
  });

  it('a detachable terminal shows all of its output to a client that watches, and the server keeps the newest', async () => {
    const lines = 700_000;
    const exec = await startTerminal(`read a; seq ${lines}; echo over`);
    const watching = await server.client.attachExec(box, exec.id);
    const seen = (async () => {
      const all = createHash('md5');
      for await (const piece of watching.output) all.update(piece);
      return all.digest('hex');
    })();
    await watching.write('\n');
    expect((await watching.exited).exitCode).toBe(0);
    const expected = createHash('md5').update('\r\n');
    for (let line = 1; line <= lines; line += 1) expected.update(`${line}\r\n`);
    expect(await seen).toBe(expected.update('over\r\n').digest('hex'));
    let kept = 0;
    for await (const event of server.client.execEvents({ box_id: box, id: exec.id }))
      if (event.type === 'log') kept += event.bytes.length;
    expect(kept).toBeLessThanOrEqual(17 * (256 + 32) * 1024);
    expect(kept).toBeGreaterThan(3 * 2 ** 20);
  });

  it('a detachable command without a terminal is refused with a hint', async () => {
    const answer = await server.call({
      method: 'POST',
      path: `/v1/boxes/${box}/exec`,
      body: { cmd: ['true'], detachable: true },
    });
    expect(answer).toMatchObject({ status: 422, json: { code: 'VALIDATION_ERROR', hint: 'add "tty": true' } });
  });

  it('the command line leaves a detachable terminal and says how to come back to it', async () => {
    const id = (
      await boxrun('exec', '-dt', '--detachable', box, '--', 'sh', '-c', 'read a; echo "got $a"; read b')
    ).trim();
    // script(1) gives the program a terminal. Ctrl-P Ctrl-Q leaves.
    const inTerminal = async (line: string, keys: string) => {
      const child = spawn('script', ['-qec', line, '/dev/null'], {
        env: server.env,
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      let shown = '';
      child.stdout.on('data', (piece: Buffer) => (shown += piece.toString()));
      // The terminal is in raw mode only after the program has begun, so the first key is typed until it is shown.
      const typing = setInterval(() => child.stdin.write(keys.charAt(0)), 300);
      await eventually('the key is shown', () => shown.includes(keys.charAt(0)), 30_000).finally(() => {
        clearInterval(typing);
      });
      child.stdin.write(keys.slice(1));
      await once(child, 'exit');
      return shown;
    };
    const program = `${process.execPath} ${cliBundle}`;
    const left = await inTerminal(`${program} attach ${box} ${id}`, 'x\r\x10\x11');
    expect(left).toContain(`to come back: boxrun attach ${box} ${id}`);
    expect(await server.client.getExec(box, id)).toMatchObject({ status: 'running' });
    const back = await inTerminal(`${program} attach ${box} ${id}`, 'y\r');
    expect(back).toMatch(/got x+\r\n/);
    expect(await server.client.getExec(box, id)).toMatchObject({ status: 'succeeded' });
  });
});
