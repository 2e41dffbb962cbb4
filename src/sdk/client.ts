// The client of a BoxRun server: what the API offers, one method each, and what programs make of it: commands run to
// their end, or followed as they run; and the same once more for a box in hand. The same on Node and in browsers.
import type { Box, BoxStatus, Exec, GcResult, Images, Info, Progress, RunResult, UiLink } from '../shared/api.ts';
import { BoxRunError } from '../shared/errors.ts';
import { errorOfAnswer } from './errors.ts';
import {
  readExecEvents,
  readRunEvents,
  type ExecEvent,
  type ExecEventsOptions,
  type RunStreamOptions,
} from './event-stream.ts';
import { collectResult, type ExecResult } from './exec-result.ts';
import { downloadFile, uploadFile, type Download, type UploadSource } from './files.ts';
import { boxQuery, eachRow, readPage, type BoxFilter, type Page, type PageOptions } from './lists.ts';
import { readMessages } from './messages.ts';
import type {
  CallOptions,
  Command,
  CreateBoxInput,
  CreateOptions,
  ExecOptions,
  MakeOptions,
  RemoveOptions,
  RunInput,
  StopOptions,
} from './options.ts';
import type { Platform } from './platform.ts';
import { readStateEvents, type StateEvent, type StateEventsOptions } from './state-stream.ts';
import { openTerminal, type AttachOptions, type AttachExecOptions, type Terminal } from './terminal.ts';
import { createTransport, type Transport } from './transport.ts';
import { readUsage, type UsageEvent, type UsageOptions } from './usage-stream.ts';

/** What `exec` keeps of a command's output, both streams together, when nothing else is said (bytes). */
const outputBytesMaxDefault = 64 * 1024 * 1024;
/** A command that nobody follows any more is canceled; the cancel itself may take so long (milliseconds). */
const cancelTimeoutMs = 10_000;

/**
 * Talks to one server. Wherever a method takes `box`, it is an id or a name. Every method throws BoxRunError: with the
 * code of the server's answer, UNAVAILABLE when the server cannot be reached, CANCELED when the signal aborts or the
 * client closes.
 */
export class BoxRunClient implements AsyncDisposable {
  readonly #transport: Transport;

  constructor(platform: Platform) {
    this.#transport = createTransport(platform);
  }

  /** Limits over all running boxes: CPUs, and memory in MiB. */
  async info(options?: CallOptions): Promise<Info> {
    return this.#get('/v1/info', options);
  }

  /** Imported images, the built-in one, and the short names of others. */
  async images(options?: CallOptions): Promise<Images> {
    return this.#get('/v1/images', options);
  }

  /** A link that logs one browser in to the server's page; it works once, and not for long. */
  async uiLink(options?: CallOptions): Promise<UiLink> {
    return this.#post('/v1/ui/link', undefined, options);
  }

  /**
   * Creates a box and starts it.
   * @param input `image`; `cpu` (2), `memory_mb` (1024, MiB), `disk_size_gb` (8, GiB), `network` (false), `workdir`
   * (/root), `name`, `env`, `volumes`
   * @throws NAME_ALREADY_EXISTS, RESOURCE_EXCEEDED, IMAGE_PULL_FAILED, VALIDATION_ERROR, RUNTIME_ERROR
   */
  async create(input: CreateBoxInput, options: CreateOptions = {}): Promise<BoxHandle> {
    const box =
      options.onProgress === undefined
        ? await this.#post<Box>('/v1/boxes', input, options)
        : await createWithProgress(this.#transport, input, options);
    return createBoxHandle(this, box);
  }

  /** All boxes, or those that `filter` says (a status alone will do), newest first. */
  async listBoxes(filter: BoxStatus | BoxFilter = {}, options?: CallOptions): Promise<BoxHandle[]> {
    return (await this.pageOfBoxes(typeof filter === 'string' ? { status: filter } : filter, options)).rows;
  }

  /** One page of them. */
  async pageOfBoxes(
    { limit, cursor, ...filter }: BoxFilter & PageOptions,
    options: CallOptions = {},
  ): Promise<Page<BoxHandle>> {
    const page = { ...(limit === undefined ? {} : { limit }), ...(cursor === undefined ? {} : { cursor }) };
    const { rows, nextCursor } = await readPage<Box>(this.#transport, '/v1/boxes', boxQuery(filter), {
      ...page,
      ...options,
    });
    return { rows: rows.map((box) => createBoxHandle(this, box)), nextCursor };
  }

  /** All of them, one after the other; `limit` is how many are asked for at a time. */
  eachBox(filter: BoxFilter & PageOptions = {}, options?: CallOptions): AsyncGenerator<BoxHandle, void, void> {
    return eachRow((page) => this.pageOfBoxes({ ...filter, ...page }, options), filter);
  }

  /** @throws BOX_NOT_FOUND */
  async getBox(box: string, options?: CallOptions): Promise<BoxHandle> {
    return createBoxHandle(this, await this.#get<Box>(boxPath(box), options));
  }

  /** @throws BOX_NOT_FOUND, BOX_ALREADY_RUNNING, RESOURCE_EXCEEDED */
  async startBox(box: string, options?: CallOptions): Promise<BoxHandle> {
    return createBoxHandle(this, await this.#post<Box>(`${boxPath(box)}:start`, undefined, options));
  }

  /**
   * Ends what runs in a box; its disk stays.
   * @param options.graceS how long processes have to end by themselves before they are killed, in seconds; when
   * absent, the box's `stop_grace_s`, else 5
   * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING
   */
  async stopBox(box: string, { graceS, ...options }: StopOptions = {}): Promise<BoxHandle> {
    const body = graceS === undefined ? undefined : { grace_s: graceS };
    return createBoxHandle(this, await this.#post<Box>(`${boxPath(box)}:stop`, body, options));
  }

  /**
   * Removes a box with its disk and its commands; a running one only with `force`.
   * @param options.graceS how long its processes have to end by themselves, in seconds; 1 when absent
   * @throws BOX_NOT_FOUND, BOX_ALREADY_RUNNING
   */
  async removeBox(box: string, { force = false, graceS, signal }: RemoveOptions = {}): Promise<void> {
    const query = new URLSearchParams({
      ...(force ? { force: 'true' } : {}),
      ...(graceS === undefined ? {} : { grace_s: String(graceS) }),
    });
    await this.#transport.json({
      method: 'DELETE',
      path: `${boxPath(box)}${query.size === 0 ? '' : `?${query.toString()}`}`,
      signal,
    });
  }

  /**
   * Starts a command and leaves it running; a short one may have finished in the answer already.
   * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING
   */
  async startExec(box: string, command: Command, options?: MakeOptions): Promise<Exec> {
    return this.#post(`${boxPath(box)}/exec`, 'cmd' in command ? command : { cmd: command }, options);
  }

  /** With `waitS`, waits up to so many seconds for the command to end. @throws BOX_NOT_FOUND, EXEC_NOT_FOUND */
  async getExec(
    box: string,
    execId: string,
    { waitS, ...options }: CallOptions & { readonly waitS?: number | undefined } = {},
  ): Promise<Exec> {
    return this.#get(`${execPath(box, execId)}${waitS === undefined ? '' : `?wait=${waitS}`}`, options);
  }

  /** Newest first. @throws BOX_NOT_FOUND */
  async listExecs(box: string, options?: CallOptions): Promise<Exec[]> {
    return (await this.pageOfExecs(box, {}, options)).rows;
  }

  /** One page of them. @throws BOX_NOT_FOUND */
  async pageOfExecs(box: string, page: PageOptions, options: CallOptions = {}): Promise<Page<Exec>> {
    return readPage(this.#transport, `${boxPath(box)}/execs`, new URLSearchParams(), { ...page, ...options });
  }

  /** All of them, one after the other; `limit` is how many are asked for at a time. @throws BOX_NOT_FOUND */
  eachExec(box: string, page: PageOptions = {}, options?: CallOptions): AsyncGenerator<Exec, void, void> {
    return eachRow((next) => this.pageOfExecs(box, next, options), page);
  }

  /** Kills a command with everything that it has started. @throws EXEC_NOT_FOUND, EXEC_ALREADY_FINISHED */
  async cancelExec(box: string, execId: string, options?: CallOptions): Promise<Exec> {
    return this.#post(`${execPath(box, execId)}:cancel`, undefined, options);
  }

  /** Sends a signal, such as `TERM`, to a command. @throws EXEC_NOT_FOUND, EXEC_ALREADY_FINISHED, VALIDATION_ERROR */
  async signalExec(box: string, execId: string, name: string, options?: CallOptions): Promise<Exec> {
    return this.#post(`${execPath(box, execId)}:signal`, { signal: name }, options);
  }

  /**
   * The output of a command from its first byte, and its exit, over lost connections too. Leaving the loop leaves the
   * command as it is.
   * @throws BOX_NOT_FOUND, EXEC_NOT_FOUND
   */
  execEvents(
    exec: Pick<Exec, 'id' | 'box_id'>,
    options: ExecEventsOptions = {},
  ): AsyncGenerator<ExecEvent, void, void> {
    return readExecEvents(this.#transport, exec, options);
  }

  /**
   * Runs a command and gives its events as they come; the exit is the last one. The command belongs to the loop:
   * leaving it, or aborting the signal, kills the command.
   * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING
   */
  async *execStream(box: string, command: Command, options: MakeOptions = {}): AsyncGenerator<ExecEvent, void, void> {
    const exec = await this.startExec(box, command, options);
    let isLeft = true;
    try {
      for await (const event of this.execEvents(exec, signalOf(options))) {
        if (event.type === 'exit') isLeft = false;
        yield event;
      }
    } catch (error) {
      // Of a command that is lost from sight nobody knows that it is unwanted.
      if (options.signal?.aborted !== true) isLeft = false;
      throw error;
    } finally {
      if (isLeft)
        await this.cancelExec(exec.box_id, exec.id, { signal: AbortSignal.timeout(cancelTimeoutMs) }).catch(
          () => undefined,
        );
    }
  }

  /**
   * Runs a command to its end. A command that fails is a result, not an error. Aborting the signal kills it.
   * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING; RESOURCE_EXCEEDED when there is more output (the command is killed)
   */
  async exec(
    box: string,
    command: Command,
    { outputBytesMax = outputBytesMaxDefault, ...options }: ExecOptions = {},
  ): Promise<ExecResult> {
    return collectResult(this.execStream(box, command, options), outputBytesMax);
  }

  /**
   * Writes a file into a box; it appears at `path` when it is complete.
   * @param source bytes in any form; a string is the path of a local file
   * @param path absolute, in the box, with the name of the file
   * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING, VALIDATION_ERROR (`path` is a directory), RUNTIME_ERROR (the disk is full);
   * what `source` throws
   */
  async upload(box: string, source: UploadSource, path: string, options: CallOptions = {}): Promise<void> {
    await uploadFile(this.#transport, source, { boxPath: boxPath(box), path, ...options });
  }

  /**
   * Reads a file out of a box.
   * @param path absolute, in the box
   * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING, VALIDATION_ERROR (`path` is a directory), RUNTIME_ERROR (there is no such
   * file)
   */
  async download(box: string, path: string, options: CallOptions = {}): Promise<Download> {
    return downloadFile(this.#transport, { boxPath: boxPath(box), path, ...options });
  }

  /**
   * Opens a terminal with a shell of its own in a box. Errors of the box come from here, or by the terminal's `exited`.
   */
  async attach(box: string, { signal, ...settings }: AttachOptions = {}): Promise<Terminal> {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(settings)) if (value !== undefined) query.set(name, String(value));
    return openTerminal(this.#transport, `${boxPath(box)}/attach?${query.toString()}`, boxPath(box), signal);
  }

  /**
   * Connects with a command that was started with `stdin` or `tty`: types into it, and shows its output from the first
   * byte.
   * @throws BOX_NOT_FOUND, EXEC_NOT_FOUND
   */
  async attachExec(box: string, execId: string, { output = true, signal }: AttachExecOptions = {}): Promise<Terminal> {
    return openTerminal(
      this.#transport,
      `${execPath(box, execId)}/attach${output ? '' : '?output=false'}`,
      execPath(box, execId),
      signal,
    );
  }

  /**
   * Runs one command in a box of its own, which is removed whatever happens; when the signal aborts, too.
   * @throws RESOURCE_EXCEEDED, IMAGE_PULL_FAILED, VALIDATION_ERROR, RUNTIME_ERROR
   */
  async run(input: RunInput, options?: MakeOptions): Promise<RunResult> {
    return this.#post('/v1/run', input, options);
  }

  /**
   * The same with its output as it comes, of any length; the exit is the last event, and comes when the box is removed.
   * Leaving the loop ends the command, and removes the box.
   */
  runStream(input: RunInput, options: RunStreamOptions = {}): AsyncGenerator<ExecEvent, void, void> {
    return readRunEvents(this.#transport, input, options);
  }

  /** Removes boxes that are stopped or failed for longer than `olderThanS` seconds. */
  async gc(olderThanS = 3600, options?: CallOptions): Promise<GcResult> {
    return this.#post('/v1/gc', { older_than: olderThanS }, options);
  }

  /**
   * What changes from now on, or after the event `since`: boxes made, changed and removed, commands started and ended.
   * Begins with `ready`, or with `reset` where what came after `since` is not known any more; goes on over lost
   * connections.
   */
  events(options: StateEventsOptions = {}): AsyncGenerator<StateEvent, void, void> {
    return readStateEvents(this.#transport, options);
  }

  /**
   * What boxes reserve and use: the last hour first, then each moment as it is taken; goes on over lost connections.
   */
  usage(options: UsageOptions = {}): AsyncGenerator<UsageEvent, void, void> {
    return readUsage(this.#transport, options);
  }

  /** Ends every request under way with CANCELED, and gives connections back. Boxes and commands stay as they are. */
  async close(): Promise<void> {
    await this.#transport.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #get<T>(path: string, { signal }: CallOptions = {}): Promise<T> {
    return this.#transport.json<T>({ method: 'GET', path, signal });
  }

  async #post<T>(path: string, json: unknown, { idempotencyKey, signal }: MakeOptions = {}): Promise<T> {
    return this.#transport.json<T>({ method: 'POST', path, json, headers: keyHeader(idempotencyKey), signal });
  }
}

/**
 * The fields of a box, and its methods; as JSON, it is the box alone. `start`, `stop` and `refresh` bring the fields up
 * to date.
 */
export type BoxHandle = Readonly<Box> & BoxMethods;

function createBoxHandle(client: BoxRunClient, box: Box): BoxHandle {
  return Object.assign(new BoxMethods(client, box.id), box);
}

/** Each method is the client's method of the like name; see there for parameters and errors. */
class BoxMethods implements AsyncDisposable {
  readonly #client: BoxRunClient;
  readonly #id: string;

  constructor(client: BoxRunClient, id: string) {
    this.#client = client;
    this.#id = id;
  }

  async refresh(options?: CallOptions): Promise<void> {
    Object.assign(this, await this.#client.getBox(this.#id, options));
  }

  async start(options?: CallOptions): Promise<void> {
    Object.assign(this, await this.#client.startBox(this.#id, options));
  }

  async stop(options?: StopOptions): Promise<void> {
    Object.assign(this, await this.#client.stopBox(this.#id, options));
  }

  async remove(options?: RemoveOptions): Promise<void> {
    await this.#client.removeBox(this.#id, options);
  }

  async exec(command: Command, options?: ExecOptions): Promise<ExecResult> {
    return this.#client.exec(this.#id, command, options);
  }

  execStream(command: Command, options?: MakeOptions): AsyncGenerator<ExecEvent, void, void> {
    return this.#client.execStream(this.#id, command, options);
  }

  async startExec(command: Command, options?: MakeOptions): Promise<Exec> {
    return this.#client.startExec(this.#id, command, options);
  }

  async getExec(execId: string, options?: CallOptions & { readonly waitS?: number | undefined }): Promise<Exec> {
    return this.#client.getExec(this.#id, execId, options);
  }

  async listExecs(options?: CallOptions): Promise<Exec[]> {
    return this.#client.listExecs(this.#id, options);
  }

  async pageOfExecs(page: PageOptions, options?: CallOptions): Promise<Page<Exec>> {
    return this.#client.pageOfExecs(this.#id, page, options);
  }

  eachExec(page?: PageOptions, options?: CallOptions): AsyncGenerator<Exec, void, void> {
    return this.#client.eachExec(this.#id, page, options);
  }

  async cancelExec(execId: string, options?: CallOptions): Promise<Exec> {
    return this.#client.cancelExec(this.#id, execId, options);
  }

  async signalExec(execId: string, name: string, options?: CallOptions): Promise<Exec> {
    return this.#client.signalExec(this.#id, execId, name, options);
  }

  async attachExec(execId: string, options?: AttachExecOptions): Promise<Terminal> {
    return this.#client.attachExec(this.#id, execId, options);
  }

  async upload(source: UploadSource, path: string, options?: CallOptions): Promise<void> {
    await this.#client.upload(this.#id, source, path, options);
  }

  async download(path: string, options?: CallOptions): Promise<Download> {
    return this.#client.download(this.#id, path, options);
  }

  async attach(options?: AttachOptions): Promise<Terminal> {
    return this.#client.attach(this.#id, options);
  }

  /** Removes the box, running or not; one that is gone already is no error. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.remove({ force: true });
    } catch (error) {
      if (!(error instanceof BoxRunError && error.code === 'BOX_NOT_FOUND')) throw error;
    }
  }
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
  { onProgress, idempotencyKey, signal }: CreateOptions,
): Promise<Box> {
  const request = {
    method: 'POST',
    path: '/v1/boxes',
    json: input,
    headers: keyHeader(idempotencyKey),
    signal,
  } as const;
  for await (const { event, data } of readMessages(transport, request)) {
    if (event === 'progress') onProgress?.(JSON.parse(data) as Progress);
    else if (event === 'box') return JSON.parse(data) as Box;
    else if (event === 'error') throw errorOfAnswer(200, data);
  }
  throw new BoxRunError('UNAVAILABLE', 'the server went while it created the box', {
    hint: 'it may have been created: see `boxrun ls`',
  });
}

function keyHeader(key: string | undefined): Record<string, string> {
  return key === undefined ? {} : { 'idempotency-key': key };
}

function signalOf({ signal }: CallOptions): CallOptions {
  return signal === undefined ? {} : { signal };
}
