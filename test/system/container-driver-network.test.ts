// Tests the network of real boxes of the container driver. By default a box has none. With `network: true` it reaches
// other machines over TCP and UDP, but no address of the host. The other machine is a network namespace here.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { killAndWait, type ProcessIdentity } from '../../src/shared/process/child-process.ts';
import { hostAddresses } from '../../src/worker/drivers/container/network/network.ts';
import type { RunState } from '../../src/worker/drivers/container/box/record.ts';
import { nameserver } from '../../src/worker/drivers/container/network/resolver.ts';
import { createContainer, describeOnHost, useBoxes } from '../support/boxes/container-boxes.ts';
import { temporaryDir, type DriverHarness } from '../support/boxes/driver-harness.ts';

const boxes = useBoxes();

/** The program of the other machine. It runs in a network namespace, and has a TCP and a UDP server that answer. */
const otherMachine = `
const net = require('net'), dgram = require('dgram');
const tcp = net.createServer((socket) => { socket.on('error', () => {}); socket.end('tcp answer\\n'); });
tcp.listen(0, '0.0.0.0', () => {
  const udp = dgram.createSocket('udp4');
  udp.on('message', (text, from) => udp.send('udp ' + text, from.port, from.address));
  udp.bind(0, '0.0.0.0', () => console.log(tcp.address().port + ' ' + udp.address().port));
});
`;
const hostSide = '10.213.77.1';
const otherSide = '10.213.77.2';
const link = `brx${process.pid}`;

let dir = '';
let other: ChildProcess;
let tcpPort = 0;
let udpPort = 0;

beforeAll(async () => {
  dir = await temporaryDir('network');
  execFileSync('gcc', [
    '-static',
    '-O1',
    '-o',
    join(dir, 'udp-ask'),
    join(import.meta.dirname, '../fixtures/udp-ask.c'),
  ]);
  const child = spawn('unshare', ['-n', process.execPath, '-e', otherMachine], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  other = child;
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  [tcpPort = 0, udpPort = 0] = line.split(' ').map(Number);
  const ip = (...args: string[]) => execFileSync('ip', args);
  const inside = (...args: string[]) => execFileSync('nsenter', ['-t', String(child.pid), '-n', 'ip', ...args]);
  ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(child.pid));
  ip('addr', 'add', `${hostSide}/30`, 'dev', link);
  ip('link', 'set', link, 'up');
  inside('addr', 'add', `${otherSide}/30`, 'dev', 'eth0');
  inside('link', 'set', 'eth0', 'up');
});
afterAll(() => {
  other.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

const probe = () => [{ host_path: dir, guest_path: '/probe', readonly: true }];

function networkProcess(box: DriverHarness): ProcessIdentity | null {
  return (JSON.parse(readFileSync(join(box.context.homeDir, 'run', 'state.json'), 'utf8')) as RunState).network;
}

async function connect(box: DriverHarness, address: string, port: number) {
  const { stdout, exit } = await box.run(['sh', '-c', `nc -w 3 ${address} ${port} </dev/null`]);
  return { answer: stdout.trim(), code: 'exitCode' in exit ? exit.exitCode : -1 };
}

describeOnHost('without a network', () => {
  test('a box reaches only itself', async () => {
    const box = await boxes.started();
    expect(await connect(box, otherSide, tcpPort)).toMatchObject({ answer: '', code: 1 });
    // The client keeps its standard input open. Otherwise the listener could see the end of the connection before it
    // has sent its line.
    const asking = 'for i in $(seq 200); do nc 127.0.0.1 4000 <&3 && break; sleep 0.05; done';
    const itself = await box.run([
      'sh',
      '-c',
      `mkfifo /run/open; exec 3<>/run/open; echo itself | nc -l -p 4000 127.0.0.1 & ${asking}; wait`,
    ]);
    expect(itself.stdout.trim()).toBe('itself');
    expect((await box.run(['cat', '/etc/resolv.conf'])).stdout).toBe('');
  });
});

describeOnHost('with a network', () => {
  test('a box reaches other machines over TCP and UDP, and has a name server', async () => {
    const box = await boxes.started({ spec: { network: true, volumes: probe() } });
    expect(await connect(box, otherSide, tcpPort)).toEqual({ answer: 'tcp answer', code: 0 });
    const udp = await box.run(['/probe/udp-ask', otherSide, String(udpPort)]);
    expect(udp.stdout.trim()).toBe('udp question');
    expect((await box.run(['cat', '/etc/resolv.conf'])).stdout).toMatch(new RegExp(`^nameserver ${nameserver}\n`));
  });

  test('a box reaches no service of the host on any address', async () => {
    const server = createServer((socket) => socket.end('host answer\n')).listen(0, '0.0.0.0');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const udp = createSocket('udp4');
    let received = 0;
    udp.on('message', (text, from) => {
      received += 1;
      udp.send(text, from.port, from.address);
    });
    udp.bind(0, '0.0.0.0');
    await once(udp, 'listening');
    try {
      const box = await boxes.started({ spec: { network: true, volumes: probe() } });
      const addresses = [
        ...hostAddresses(),
        hostSide,
        '10.0.2.2',
        '127.0.0.1',
        '127.1.2.3',
        '0.0.0.0',
        '169.254.169.254',
        '255.255.255.255',
      ];
      expect(addresses).toContain(hostSide);
      for (const address of addresses) {
        expect([address, await connect(box, address, port)]).toEqual([address, { answer: '', code: 1 }]);
        expect((await box.run(['/probe/udp-ask', address, String(udp.address().port)])).stdout).toBe('');
      }
      expect(received).toBe(0);
      expect(await connect(box, otherSide, tcpPort)).toEqual({ answer: 'tcp answer', code: 0 });
    } finally {
      server.close();
      udp.close();
    }
  });

  test('a box cannot change its own routes, interfaces and neighbours', async () => {
    const box = await boxes.started({ spec: { network: true } });
    expect((await box.run(['ip', 'link', 'set', 'tap0', 'down'])).exit).not.toEqual({ exitCode: 0 });
    expect((await box.run(['ip', 'route', 'add', `${hostSide}/32`, 'dev', 'tap0'])).exit).not.toEqual({ exitCode: 0 });
    expect(
      (await box.run(['ip', 'neigh', 'add', hostSide, 'lladdr', '52:55:0a:00:02:02', 'dev', 'tap0'])).exit,
    ).not.toEqual({ exitCode: 0 });
  });

  test('a box cannot reach an address that the host gets later', async () => {
    const box = await boxes.started({ spec: { network: true } });
    const later = '10.213.78.1';
    const server = createServer((socket) => socket.end('host answer\n')).listen(0, '0.0.0.0');
    await once(server, 'listening');
    try {
      execFileSync('ip', ['addr', 'add', `${later}/32`, 'dev', link]);
      const { port } = server.address() as AddressInfo;
      await expect
        .poll(() => connect(box, later, port), { timeout: 15_000, interval: 500 })
        .toEqual({ answer: '', code: 1 });
    } finally {
      execFileSync('ip', ['addr', 'del', `${later}/32`, 'dev', link]);
      server.close();
    }
  });

  test('a box has a network again after its network process and its worker have died', async () => {
    const first = await boxes.started({ spec: { network: true } });
    await first.driver.close();
    await killAndWait(networkProcess(first) as ProcessIdentity, 5000, 'a process of the test');
    const second = first.successor(createContainer);
    expect(await second.driver.reattach()).toBe('running');
    expect(await connect(second, otherSide, tcpPort)).toEqual({ answer: 'tcp answer', code: 0 });
    await second.driver.stop(0);
    await second.start();
    expect(await connect(second, otherSide, tcpPort)).toEqual({ answer: 'tcp answer', code: 0 });
  });

  test('a box has a network again after its network process was killed', async () => {
    const box = await boxes.started({ spec: { network: true } });
    await killAndWait(networkProcess(box) as ProcessIdentity, 5000, 'a process of the test');
    await expect
      .poll(() => connect(box, otherSide, tcpPort), { timeout: 15_000, interval: 500 })
      .toEqual({ answer: 'tcp answer', code: 0 });
    await expect.poll(() => networkProcess(box)?.pid).not.toBe(undefined);
  });
});
