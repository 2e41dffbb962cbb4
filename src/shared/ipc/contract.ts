// A contract between two processes: its requests (client to server) and its notices (server to client). Each has a
// schema. Both sides derive their types from it, and the receiver checks every message against it.
import { Type, type Static, type TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { limits } from '../limits.ts';

export interface RequestSchemas {
  readonly params: TSchema;
  readonly result: TSchema;
  /**
   * The longest time until the answer, in milliseconds. Some requests compute it from their parameters. Absent:
   * limits.requestTimeoutMs. The client tells it to the server, so both give up at the same time.
   */
  readonly timeoutMs?: number | ((params: never) => number);
}

export interface Contract {
  readonly name: string;
  /** Each incompatible change raises it by one. Both sides still understand the version before. */
  readonly version: number;
  /** What a client and a server say about themselves in their first frame. */
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

/** The longest time until the answer to this request, in milliseconds. */
export function timeoutOf<C extends Contract, M extends MethodOf<C>>(
  contract: C,
  method: M,
  params: ParamsOf<C, M>,
): number {
  const timeoutMs = (contract.requests[method] as RequestSchemas).timeoutMs ?? limits.requestTimeoutMs;
  return typeof timeoutMs === 'function' ? timeoutMs(params as never) : timeoutMs;
}

/** The schema of bytes. They cross as msgpack's binary type. */
export const Bytes = Type.Unsafe<Uint8Array>(
  Type.Refine(
    Type.Unknown(),
    (value) => value instanceof Uint8Array,
    () => 'must be bytes',
  ),
);

/** The result of a request that returns nothing. */
export const Done = Type.Null();

const compiled = new WeakMap<TSchema, (value: unknown) => boolean>();

/** Compiles the schemas of the messages that `side` receives, so that the first messages do not wait for that. */
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

/** True if `value` fits the schema. Each schema is compiled once. */
export function fits(schema: TSchema, value: unknown): boolean {
  let check = compiled.get(schema);
  if (check === undefined) {
    const validator = Compile(schema);
    check = (candidate) => validator.Check(candidate);
    compiled.set(schema, check);
  }
  return check(value);
}
