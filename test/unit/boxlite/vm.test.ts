// Tests the parsers for the process of a VM: which box it belongs to, what it used, and why it ended. Also tests the
// watch on its socket.
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { reasonOf } from '../../../src/worker/drivers/boxlite/vm/diagnosis.ts';
import { belongsToHome, parseUsage } from '../../../src/worker/drivers/boxlite/home/vm-processes.ts';
import { watchVm } from '../../../src/worker/drivers/boxlite/vm/vm-watch.ts';

describe('a process on the host', () => {
  const homes = ['/state/boxes/box_a'];

  it.each([
    ['the shim', ['/state/boxes/box_a/boxes/x/bin/boxlite-shim'], true],
    ['the jail', ['/opt/bwrap', '--bind', '/state/boxes/box_a/boxes/x/tmp', '/t'], true],
    ['the shim of a box whose home has a longer name', ['/state/boxes/box_ab/boxes/x/bin/boxlite-shim'], false],
    ['an editor that looks at the home', ['vi', '/state/boxes/box_a/boxes/x/shim.stderr'], false],
    ['a kernel thread', [''], false],
  ])('is matched to its home if it is %s', (_name, argv, belongs) => {
    expect(belongsToHome(argv, homes)).toBe(belongs);
  });
});

it('parseUsage reads CPU time and memory after a name with spaces and parentheses', () => {
  const stat =
    '155 (box) shim)) S 154 155 155 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 7 0 1199 1000000 2560 18446744073709551615';
  expect(parseUsage(stat)).toEqual({ cpuSeconds: 3, memoryBytes: 2560 * 4096 });
});

describe('the reason for the end of a VM', () => {
  it.each([
    ['{"type":"signal","exit_code":159,"signal":"SIGSYS"}', '', '', 'the VM was killed by SIGSYS'],
    ['{"type":"panic","exit_code":101,"message":"no memory\\nat x","location":"x"}', '', '', 'the VM ended: no memory'],
    ['', '{"exit_code":0}', '', 'the box was shut down from inside (process 1 ended with 0)'],
    [
      '',
      '',
      '[2026-11-23T13:07:34Z ERROR krun_vmm::linux::vstate] Received KVM_EXIT_INTERNAL_ERROR signal\n',
      'the VM ended: Received KVM_EXIT_INTERNAL_ERROR signal',
    ],
    ['{"type":"sig', '', '', 'the VM is gone'],
    ['', '', '', 'the VM is gone'],
  ])('is read from the reports "%s", "%s" and "%s"', (shim, init, stderr, reason) => {
    expect(reasonOf(shim, init, stderr)).toBe(reason);
  });
});

describe('the watch on a VM', () => {
  let dir = '';
  let server: Server;
  let connections: Socket[] = [];

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'boxrun-watch-'));
    connections = [];
    server = createServer((socket) => void connections.push(socket)).listen(join(dir, 's'));
    await once(server, 'listening');
  });
  afterEach(() => {
    for (const socket of connections) socket.destroy();
    server.close();
    rmSync(dir, { recursive: true, force: true });
  });

  it('reports the end when the process of the socket has ended', async () => {
    let ends = 0;
    const watch = watchVm({ socketPath: join(dir, 's'), isVmAlive: async () => false, onEnd: () => void (ends += 1) });
    await once(server, 'connection');
    await delay(20);
    expect(ends).toBe(0);
    connections[0]?.destroy();
    await delay(50);
    expect(ends).toBe(1);
    watch.stop();
  });

  it('connects again if only the connection has ended', async () => {
    let ends = 0;
    const watch = watchVm({ socketPath: join(dir, 's'), isVmAlive: async () => true, onEnd: () => void (ends += 1) });
    await once(server, 'connection');
    connections[0]?.destroy();
    await once(server, 'connection');
    expect(ends).toBe(0);
    watch.stop();
  });

  it('reports nothing after it was stopped', async () => {
    let ends = 0;
    const watch = watchVm({ socketPath: join(dir, 's'), isVmAlive: async () => false, onEnd: () => void (ends += 1) });
    await once(server, 'connection');
    watch.stop();
    connections[0]?.destroy();
    await delay(50);
    expect(ends).toBe(0);
  });
});
