// The socket at which a worker waits for the agent of a micro-VM, as a real Unix socket. Every user in the VM can
// connect, so all but the agent with the token is refused, and costs little.
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { limits } from '../../../src/shared/limits.ts';
import { openAgentDoor, type AgentDoor } from '../../../src/worker/agent/agent-door.ts';
import { encodeLeave, encodeToken } from '../../../src/worker/agent/frames.ts';

const token = 'a'.repeat(64);
let directory: string;
let path: string;
let door: AgentDoor;
let agents: Socket[];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'boxrun-door-'));
  path = join(directory, 'ready.sock');
  agents = [];
  door = await openAgentDoor(path, token, (socket) => agents.push(socket));
});
afterEach(() => {
  door.close();
  for (const agent of agents) agent.destroy();
  rmSync(directory, { recursive: true });
  vi.useRealTimers();
});

async function call(...said: Buffer[]): Promise<{ socket: Socket; heard: Promise<Buffer> }> {
  const socket = connect(path);
  await once(socket, 'connect');
  const pieces: Buffer[] = [];
  socket.on('data', (piece: Buffer) => pieces.push(piece));
  socket.on('error', () => undefined);
  const heard = once(socket, 'close').then(() => Buffer.concat(pieces));
  for (const piece of said) socket.write(piece);
  return { socket, heard };
}

describe('the door for the agent of a micro-VM', () => {
  it('is a socket that only its owner can use, in place of the file that was there', async () => {
    const other = join(directory, 'other.sock');
    writeFileSync(other, '');
    const second = await openAgentDoor(other, token, () => undefined);
    expect(statSync(other).isSocket()).toBe(true);
    expect(statSync(other).mode & 0o777).toBe(0o600);
    second.close();
  });

  it('lets in the agent that says the token, also in single bytes', async () => {
    const { socket } = await call(...[...encodeToken(token)].map((byte) => Buffer.from([byte])));
    await vi.waitFor(() => {
      expect(agents).toHaveLength(1);
    });
    agents[0]?.write('hello');
    expect(String((await once(socket, 'data'))[0])).toBe('hello');
    socket.destroy();
  });

  it.each([
    ['another token', encodeToken('b'.repeat(64))],
    ['more than the token', Buffer.concat([encodeToken(token), Buffer.from('x')])],
    ['a hello as of a worker', Buffer.alloc(encodeToken(token).length, 1)],
  ])('tells a connection to leave that says %s', async (_, said) => {
    const { heard } = await call(said);
    expect(await heard).toEqual(encodeLeave());
    expect(agents).toEqual([]);
  });

  it('lets in only the agent with the newest token', async () => {
    door.setToken('c'.repeat(64));
    expect(await (await call(encodeToken(token))).heard).toEqual(encodeLeave());
    door.setToken(null);
    expect(await (await call()).heard).toEqual(Buffer.alloc(0));
    expect(agents).toEqual([]);
  });

  it('closes the oldest of many silent connections, and the agent still comes in', async () => {
    const first = await call();
    const others = [];
    for (let index = 0; index < limits.agentCallersMax; index += 1) others.push(await call());
    expect(await first.heard).toEqual(Buffer.alloc(0));
    const { socket } = await call(encodeToken(token));
    await vi.waitFor(() => {
      expect(agents).toHaveLength(1);
    });
    for (const each of [...others.map((other) => other.socket), socket]) each.destroy();
  });

  it('closes a connection that does not say the token in time', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { heard, socket } = await call(encodeToken(token).subarray(1));
    // The server has the connection when a later one has come in.
    const later = await call(encodeToken(token));
    await vi.waitUntil(() => agents.length === 1);
    vi.advanceTimersByTime(limits.helloTimeoutMs);
    expect(await heard).toEqual(Buffer.alloc(0));
    expect(socket.destroyed).toBe(true);
    later.socket.destroy();
  });

  it('leaves the socket of the next worker in place when it closes', async () => {
    const next = await openAgentDoor(path, token, (socket) => agents.push(socket));
    door.close();
    await call(encodeToken(token));
    await vi.waitFor(() => {
      expect(agents).toHaveLength(1);
    });
    next.close();
  });
});
