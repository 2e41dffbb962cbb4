// Tests commands and terminals on the two ways of a container: with the agent in the box, and without it. Both have a
// server of their own, because the way is a setting of the server.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { getLocal } from '../support/servers/local-http.ts';
import { parsePrometheus, sumOf } from '../support/load/prometheus.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

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
});
