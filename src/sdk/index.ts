// The client of a BoxRun server: one method for each request of the API, with errors of the catalogue.
// Used by the command line and by programs; it knows the public contract only.
import type { Box, BoxStatus, CreateBoxBody, Exec, ExecBody, GcResult, Info, Progress, RunBody, RunResult } from '../shared/api.ts';
import { BoxRunError } from '../shared/errors.ts';
import { errorOfAnswer } from './errors.ts';
import { readExecEvents, readMessages, type ExecEvent, type ExecEventsOptions } from './event-stream.ts';
import { createTransport, type ServerAddress, type Transport } from './transport.ts';

export type { Box, BoxStatus, Exec, Info, Progress, RunResult } from '../shared/api.ts';
export { BoxRunError, type ErrorCode } from '../shared/errors.ts';
export type { ExecEvent, ExecEventsOptions, ExitEvent, LogEvent } from './event-stream.ts';
export type { ServerAddress } from './transport.ts';

export interface CallOptions {
  /** Ends the wait with CANCELED; what the server has begun goes on, but for `run`, whose box is removed. */
  readonly signal?: AbortSignal;
}

export type CreateBoxInput = Pick<CreateBoxBody, 'image'> & Partial<CreateBoxBody>;
export type RunInput = Pick<RunBody, 'image' | 'cmd'> & Partial<RunBody>;

/** `box` is an id or a name. Every method throws BoxRunError: what the server answers, or UNAVAILABLE, or CANCELED. */
export interface BoxRunClient {
  info(options?: CallOptions): Promise<Info>;
  /** Creates and starts a box. With `onProgress`, each step of it is told. */
  createBox(input: CreateBoxInput, options?: CallOptions & { onProgress?: (progress: Progress) => void }): Promise<Box>;
  /** Newest first; those of one status only where that is given. */
  listBoxes(status?: BoxStatus, options?: CallOptions): Promise<Box[]>;
  getBox(box: string, options?: CallOptions): Promise<Box>;
  startBox(box: string, options?: CallOptions): Promise<Box>;
  stopBox(box: string, options?: CallOptions): Promise<Box>;
  /** Removes a box with its disk; a running one only with `force`. */
  removeBox(box: string, options?: CallOptions & { force?: boolean }): Promise<void>;
  /** Starts a command; a short one may already have finished in the answer. */
  startExec(box: string, input: ExecBody, options?: CallOptions): Promise<Exec>;
  getExec(box: string, execId: string, options?: CallOptions): Promise<Exec>;
  /** Newest first. */
  listExecs(box: string, options?: CallOptions): Promise<Exec[]>;
  /** Kills a command with everything that it has started. */
  cancelExec(box: string, execId: string, options?: CallOptions): Promise<Exec>;
  /** The output of a command from its first byte, and its exit; over lost connections too. */
  execEvents(exec: Pick<Exec, 'id' | 'box_id'>, options?: ExecEventsOptions): AsyncGenerator<ExecEvent, void, void>;
  /** Runs one command in a box of its own, which is removed whatever happens. */
  run(input: RunInput, options?: CallOptions): Promise<RunResult>;
  /** Removes boxes that are stopped or failed for longer than `olderThanS` seconds. */
  collectGarbage(olderThanS: number, options?: CallOptions): Promise<GcResult>;
  /** Gives connections back. */
  close(): Promise<void>;
}

/** A client of the server at `server`; it connects with the first request. */
export function createClient(server: ServerAddress): BoxRunClient {
  const transport = createTransport(server);
  const get = <T>(path: string, { signal }: CallOptions = {}) => transport.json<T>({ method: 'GET', path, signal });
  const post = <T>(path: string, body: unknown, { signal }: CallOptions = {}) =>
    transport.json<T>({ method: 'POST', path, body, signal });
  return {
    info: (options) => get('/v1/info', options),
    createBox(input, { onProgress, signal } = {}) {
      if (onProgress === undefined) return post('/v1/boxes', input, { ...(signal === undefined ? {} : { signal }) });
      return createWithProgress(transport, input, onProgress, signal);
    },
    listBoxes: (status, options) => get(`/v1/boxes${status === undefined ? '' : `?status=${status}`}`, options),
    getBox: (box, options) => get(boxPath(box), options),
    startBox: (box, options) => post(`${boxPath(box)}:start`, undefined, options),
    stopBox: (box, options) => post(`${boxPath(box)}:stop`, undefined, options),
    async removeBox(box, { force = false, signal } = {}) {
      await transport.json({ method: 'DELETE', path: `${boxPath(box)}${force ? '?force=true' : ''}`, signal });
    },
    startExec: (box, input, options) => post(`${boxPath(box)}/exec`, input, options),
    getExec: (box, execId, options) => get(execPath(box, execId), options),
    listExecs: (box, options) => get(`${boxPath(box)}/execs`, options),
    cancelExec: (box, execId, options) => post(`${execPath(box, execId)}:cancel`, undefined, options),
    execEvents: (exec, options = {}) => readExecEvents(transport, exec, options),
    run: (input, options) => post('/v1/run', input, options),
    collectGarbage: (olderThanS, options) => post('/v1/gc', { older_than: olderThanS }, options),
    close: () => transport.close(),
  };
}

function boxPath(box: string): string {
  return `/v1/boxes/${encodeURIComponent(box)}`;
}

function execPath(box: string, execId: string): string {
  return `${boxPath(box)}/exec/${encodeURIComponent(execId)}`;
}

async function createWithProgress(
  transport: Transport,
  input: CreateBoxInput,
  onProgress: (progress: Progress) => void,
  signal: AbortSignal | undefined,
): Promise<Box> {
  for await (const { event, data } of readMessages(transport, { method: 'POST', path: '/v1/boxes', body: input, signal })) {
    if (event === 'progress') onProgress(JSON.parse(data) as Progress);
    else if (event === 'box') return JSON.parse(data) as Box;
    else if (event === 'error') throw errorOfAnswer(200, data);
  }
  throw new BoxRunError('UNAVAILABLE', 'the server went while it created the box', {
    hint: 'it may have been created: see `boxrun ls`',
  });
}
