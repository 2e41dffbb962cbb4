// A small contract, a server for it and raw connections to that server, for the tests in this folder.
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { Type } from 'typebox';
import { onTestFinished } from 'vitest';
import { connectContract, type ConnectOptions, type ServerPeer } from '../../../src/shared/ipc/client.ts';
import { Bytes, Done, type Contract } from '../../../src/shared/ipc/contract.ts';
import { createFrameDecoder, encodeFrame } from '../../../src/shared/ipc/frame.ts';
import {
  serveContract,
  type IpcServer,
  type RequestContext,
  type ServeOptions,
} from '../../../src/shared/ipc/server.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { controlledPromise, quietLog, temporaryDirectory } from '../../support/runs/unit.ts';

export const kitchen = {
  name: 'kitchen',
  version: 5,
  clientHello: Type.Object({ guest: Type.String() }),
  serverHello: Type.Object({ cook: Type.String() }),
  requests: {
    /** Answers with the dish after `afterMs`. */
    cook: {
      params: Type.Object({ dish: Type.String(), afterMs: Type.Integer() }),
      result: Type.Object({ dish: Type.String() }),
    },
    /** Answers only when the test answers. */
    wait: { params: Type.Object({}), result: Type.String() },
    fail: { params: Type.Object({}), result: Done },
    weigh: { params: Type.Object({ what: Bytes }), result: Type.Integer() },
    misanswer: { params: Type.Object({}), result: Type.Integer() },
  },
  notices: { bell: Type.Object({ count: Type.Integer() }) },
} as const satisfies Contract;
export type Kitchen = typeof kitchen;

export interface KitchenServer {
  readonly path: string;
  readonly server: IpcServer<Kitchen>;
  /** The contexts of the `wait` requests, in order, with a function to answer each. */
  readonly waits: { context: RequestContext<Kitchen>; answer: (text: string) => void }[];
  failWith: unknown;
  readonly events: string[];
}

type Overrides = Partial<Pick<ServeOptions<Kitchen>, 'path' | 'hello'>> & { version?: number };

export async function serveKitchen(overrides: Overrides = {}): Promise<KitchenServer> {
  const path = overrides.path ?? join(temporaryDirectory(), 'kitchen.sock');
  const waits: KitchenServer['waits'] = [];
  const events: string[] = [];
  const state = { failWith: new Error('nothing was set') as unknown };
  const server = await serveContract<Kitchen>({
    path,
    contract: { ...kitchen, version: (overrides.version ?? kitchen.version) as 5 },
    hello: overrides.hello ?? (() => ({ cook: 'Ada' })),
    log: quietLog,
    handlers: {
      async cook({ dish, afterMs }, { progress }) {
        progress('chop', dish);
        if (afterMs > 0) await new Promise((resolve) => setTimeout(resolve, afterMs));
        return { dish };
      },
      wait(_, context) {
        const { promise, resolve } = controlledPromise<string>();
        waits.push({ context, answer: resolve });
        return promise;
      },
      fail() {
        throw state.failWith;
      },
      weigh: ({ what }) => what.length,
      misanswer: () => 'not a number' as unknown as number,
    },
    onConnect: ({ hello }) => events.push(`connect ${hello.guest}`),
    onDisconnect: ({ hello }) => events.push(`disconnect ${hello.guest}`),
  });
  onTestFinished(() => server.close());
  return {
    path,
    server,
    waits,
    events,
    get failWith() {
      return state.failWith;
    },
    set failWith(error) {
      state.failWith = error;
    },
  };
}

export function visitOptions(path: string, bells: number[] = []): ConnectOptions<Kitchen> {
  return { path, contract: kitchen, hello: { guest: 'Bo' }, notices: { bell: ({ count }) => bells.push(count) } };
}

export async function visit(path: string, bells: number[] = []): Promise<ServerPeer<Kitchen>> {
  const peer = await connectContract(visitOptions(path, bells));
  onTestFinished(() => {
    peer.close('the test is over');
  });
  return peer;
}

export interface RawConnection {
  send(message: unknown): void;
  sendBytes(bytes: Buffer): void;
  readonly messages: unknown[];
  readonly socket: Socket;
  /** Resolves when the server has closed it. */
  closed(): Promise<void>;
}

/** A connection on which the test can send any message. */
export function rawConnection(path: string): RawConnection {
  const socket = connect(path);
  const decode = createFrameDecoder();
  const messages: unknown[] = [];
  let closed = false;
  socket.on('error', () => undefined);
  socket.on('data', (piece) => messages.push(...decode(piece)));
  socket.on('close', () => {
    closed = true;
  });
  onTestFinished(() => {
    socket.destroy();
  });
  return {
    send: (message) => socket.write(encodeFrame(message)),
    sendBytes: (bytes) => socket.write(bytes),
    messages,
    socket,
    async closed() {
      await eventually('the server closes the connection', () => closed);
    },
  };
}
