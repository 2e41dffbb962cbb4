// What a contract between two processes is: its requests (client to server) and notices (server to client), each with
// a schema from which both sides derive their types, and against which every message is checked on receipt.
import { Type, type Static, type TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { limits } from '../limits.ts';

export interface RequestSchemas {
  readonly params: TSchema;
  readonly result: TSchema;
  /**
   * How long the answer may take, in milliseconds; some requests say it themselves. limits.requestTimeoutMs when absent.
   * The client gives up then, and the server gives up the work: the client's frame tells it the time.
   */
  readonly timeoutMs?: number | ((params: never) => number);
}

export interface Contract {
  readonly name: string;
  /** Raised by one with each incompatible change; the version before is still spoken. */
  readonly version: number;
  /** What a client and a server say of themselves in their first frame. */
  readonly clientHello: TSchema;
  readonly serverHello: TSchema;
  readonly requests: Readonly<Record<string, RequestSchemas>>;
  readonly notices: Readonly<Record<string, TSchema>>;
}

export type MethodOf<C extends Contract> = keyof C['requests'] & string;
export type ParamsOf<C extends Contract, M extends MethodOf<C>> = Static<C['requests'][M]['params']>;
export type ResultOf<C extends Contract, M extends MethodOf<C>> = Static<C['requests'][M]['result']>;
export type NoticeName<C extends Contract> = keyof C['notices'] & string;
export type NoticeOf<C extends Contract, N extends NoticeName<C>> = Static<C['notices'][N]>;
export type ClientHello<C extends Contract> = Static<C['clientHello']>;
export type ServerHello<C extends Contract> = Static<C['serverHello']>;

/** How long the answer to this request may take, in milliseconds. */
export function timeoutOf<C extends Contract, M extends MethodOf<C>>(
  contract: C,
  method: M,
  params: ParamsOf<C, M>,
): number {
  const timeoutMs = (contract.requests[method] as RequestSchemas).timeoutMs ?? limits.requestTimeoutMs;
  return typeof timeoutMs === 'function' ? timeoutMs(params as never) : timeoutMs;
}

/** Bytes on the wire: msgpack's own binary type. */
export const Bytes = Type.Unsafe<Uint8Array>(
  Type.Refine(
    Type.Unknown(),
    (value) => value instanceof Uint8Array,
    () => 'must be bytes',
  ),
);

/** Result of a request that only says that it was done. */
export const Done = Type.Null();

const compiled = new WeakMap<TSchema, (value: unknown) => boolean>();

/** Compiles ahead what this side of a contract checks, so that the first messages do not wait for that. */
export function prepareContract(
  { clientHello, serverHello, requests, notices }: Contract,
  side: 'client' | 'server',
): void {
  const received =
    side === 'server'
      ? [clientHello, ...Object.values(requests).map(({ params }) => params)]
      : [serverHello, ...Object.values(requests).map(({ result }) => result), ...Object.values(notices)];
  for (const schema of received) fits(schema, null);
}

/** True when `value` fits; schemas are compiled once. */
export function fits(schema: TSchema, value: unknown): boolean {
  let check = compiled.get(schema);
  if (check === undefined) {
    const validator = Compile(schema);
    check = (candidate) => validator.Check(candidate);
    compiled.set(schema, check);
  }
  return check(value);
}
