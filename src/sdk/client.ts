// The client of a BoxRun server. It has one method for each request below /v1, and methods for common sequences of
// requests, such as running a command to its end. It works the same on Node and in browsers.
import type {
  Box,
  BoxProcess,
  BoxStats,
  BoxStatus,
  Exec,
  GcResult,
  Images,
  Info,
  PullResult,
  RunResult,
  UiLink,
} from '../shared/api.ts';
import { BoxFiles } from './box-files.ts';
import { createBoxHandle, type BoxHandle } from './box-handle.ts';
import {
  readExecEvents,
  readRunEvents,
  type ExecEvent,
  type ExecEventsOptions,
  type RunStreamOptions,
} from './event-stream.ts';
import { execBody } from './command.ts';
import { collectResult, runOutcome, type ExecResult, type RunOutcome } from './exec-result.ts';
import { downloadFile, uploadFile, type Download, type UploadAttributes, type UploadSource } from './files.ts';
import { boxQuery, eachRow, readPage, type BoxFilter, type Page, type PageOptions } from './lists.ts';
import { createBoxPorts, type BoxPorts } from './ports.ts';
import { createBoxWithProgress, readProgress } from './progress.ts';
import { abortsLater, boxPath, execPath, graceBody, keyHeader, signalOf } from './request-parts.ts';
import type {
  CallOptions,
  Command,
  CreateBoxInput,
  CreateOptions,
  ExecOptions,
  MakeOptions,
  PullOptions,
  RemoveOptions,
  RunInput,
  StopOptions,
  UpdateBoxInput,
} from './options.ts';
import type { Platform } from './platform.ts';
import { readStateEvents, type StateEvent, type StateEventsOptions } from './state-stream.ts';
import { openTerminal, type AttachExecOptions, type AttachOptions, type Terminal } from './terminal.ts';
import { createTransport, type Transport } from './transport.ts';
import { readUsage, type UsageEvent, type UsageOptions } from './usage-stream.ts';

/** How much output `exec` keeps by default, both streams together, in bytes. */
const outputBytesMaxDefault = 64 * 1024 * 1024;
/** Deadline for the request that cancels a command whose loop the caller has left, in milliseconds. */
const cancelTimeoutMs = 10_000;

/**
 * Talks to one server. The parameter `box` is always an id or a name. Every method may throw BoxRunError: with the code
 * of the server's answer, with UNAVAILABLE if the server cannot be reached, or with CANCELED if the signal aborts or
 * the client is closed. Errors of an upload's source and of a local file come unchanged.
 */
export class BoxRunClient implements AsyncDisposable {
  readonly #transport: Transport;

  constructor(platform: Platform) {
    this.#transport = createTransport(platform);
  }

  /** The limits for all running boxes together: number of CPUs, and memory in MiB. */
  async info(options?: CallOptions): Promise<Info> {
    return this.#get('/v1/info', options);
  }

  /** Imported images, the built-in image, and short names of images in registries. */
  async images(options?: CallOptions): Promise<Images> {
    return this.#get('/v1/images', options);
  }

  /**
   * Pulls and unpacks an image, so that the next box does not wait for it. Aborting the signal ends the pull.
   * @returns the reference or the name of the image
   * @throws IMAGE_PULL_FAILED, RESOURCE_EXCEEDED, TOO_MANY_REQUESTS
   */
  async pullImage(image: string, { onProgress, signal }: PullOptions = {}): Promise<PullResult> {
    const request = { method: 'POST', path: '/v1/images', json: { image }, signal } as const;
    return readProgress(this.#transport, request, 'image', onProgress);
  }

  /** Removes an imported image. Boxes that were made from it keep their disks. @throws NOT_FOUND */
  async removeImage(image: string, { signal }: CallOptions = {}): Promise<void> {
    await this.#transport.json({ method: 'DELETE', path: `/v1/images/${encodeURIComponent(image)}`, signal });
  }

  /** A link that logs one browser in to the server's page. It works once, and only for a short time. */
  async uiLink(options?: CallOptions): Promise<UiLink> {
    return this.#post('/v1/ui/link', undefined, options);
  }

  /**
   * Creates a box and starts it.
   * @param input `image` is required. Optional, with their defaults: `cpu` (2), `memory_mb` (1024, in MiB),
   * `disk_size_gb` (8, in GiB), `network` (false), `workdir` (/root); without a default: `name`, `env`, `volumes`,
   * `ulimits`, `labels`, `stop_grace_s`, `cpu_limit` (at most `cpu`)
   * @throws NAME_ALREADY_EXISTS, RESOURCE_EXCEEDED, IMAGE_PULL_FAILED, VALIDATION_ERROR, RUNTIME_ERROR
   */
  async create(input: CreateBoxInput, options: CreateOptions = {}): Promise<BoxHandle> {
    const box =
      options.onProgress === undefined
        ? await this.#post<Box>('/v1/boxes', input, options)
        : await createBoxWithProgress(this.#transport, input, options);
    return createBoxHandle(this, box);
  }

  /** The boxes that match `filter` (a status or a filter), newest first. All boxes by default. */
  async listBoxes(filter: BoxStatus | BoxFilter = {}, options?: CallOptions): Promise<BoxHandle[]> {
    return (await this.pageOfBoxes(typeof filter === 'string' ? { status: filter } : filter, options)).rows;
  }

  /** One page of the boxes that match a filter, newest first. */
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

  /** Each box that matches `filter`, newest first. `limit` is the number of boxes in one request. */
  eachBox(filter: BoxFilter & PageOptions = {}, options?: CallOptions): AsyncGenerator<BoxHandle, void, void> {
    return eachRow((page) => this.pageOfBoxes({ ...filter, ...page }, options), filter);
  }

  /** @throws BOX_NOT_FOUND */
  async getBox(box: string, options?: CallOptions): Promise<BoxHandle> {
    return createBoxHandle(this, await this.#get<Box>(boxPath(box), options));
  }

  /** What a running box uses now. Null: its engine does not say it. @throws BOX_NOT_FOUND, BOX_NOT_RUNNING */
  async boxStats(box: string, options?: CallOptions): Promise<BoxStats> {
    return this.#get(`${boxPath(box)}/stats`, options);
  }

  /** The processes in a running box, by pid. @throws BOX_NOT_FOUND, BOX_NOT_RUNNING */
  async processes(box: string, options?: CallOptions): Promise<BoxProcess[]> {
    return this.#get(`${boxPath(box)}/processes`, options);
  }

  /** Sends a signal, such as `HUP`, to one of `processes`. @throws BOX_NOT_FOUND, BOX_NOT_RUNNING, VALIDATION_ERROR */
  async signalProcess(box: string, pid: number, name: string, options?: CallOptions): Promise<void> {
    await this.#post(`${boxPath(box)}/processes/${pid}:signal`, { signal: name }, options);
  }

  /** The TCP ports of a box: what listens, connections to it, and local ports that lead to it. */
  ports(box: string): BoxPorts {
    return createBoxPorts(this.#transport, boxPath(box));
  }

  /** @throws BOX_NOT_FOUND, BOX_ALREADY_RUNNING, RESOURCE_EXCEEDED */
  async startBox(box: string, options?: CallOptions): Promise<BoxHandle> {
    return createBoxHandle(this, await this.#post<Box>(`${boxPath(box)}:start`, undefined, options));
  }

  /**
   * Stops a box: all its processes end, its disk stays.
   * @param options.graceS how long processes have to end by themselves before they are killed, in seconds. When absent,
   * the box's `stop_grace_s` is used, or 5 if the box has none
   * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING
   */
  async stopBox(box: string, { graceS, ...options }: StopOptions = {}): Promise<BoxHandle> {
    return createBoxHandle(this, await this.#post<Box>(`${boxPath(box)}:stop`, graceBody(graceS), options));
  }

  /**
   * Stops a box if it runs, and starts it. If the start fails, the box stays stopped or in error.
   * @param options.graceS as for `stopBox`
   * @throws BOX_NOT_FOUND, RESOURCE_EXCEEDED
   */
  async restartBox(box: string, { graceS, ...options }: StopOptions = {}): Promise<BoxHandle> {
    return createBoxHandle(this, await this.#post<Box>(`${boxPath(box)}:restart`, graceBody(graceS), options));
  }

  /**
   * Changes the name and the labels of a box, in any state. What is absent stays as it is.
   * @throws BOX_NOT_FOUND, NAME_ALREADY_EXISTS, VALIDATION_ERROR
   */
  async updateBox(box: string, changes: UpdateBoxInput, { signal }: CallOptions = {}): Promise<BoxHandle> {
    const request = { method: 'PATCH', path: boxPath(box), json: changes, signal } as const;
    const changed = await this.#transport.json<Box>(request);
    return createBoxHandle(this, changed);
  }

  /**
   * Removes a box with its disk and its commands. A running box is removed only with `force`.
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
   * Starts a command and does not wait for its end. A short command may have finished when the answer comes.
   * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING, VALIDATION_ERROR
   */
  async startExec(box: string, command: Command, options?: MakeOptions): Promise<Exec> {
    return this.#post(`${boxPath(box)}/exec`, execBody(command), options);
  }

  /**
   * @param options.waitS longest time to wait for the end of the command, in seconds; no wait when absent
   * @throws BOX_NOT_FOUND, EXEC_NOT_FOUND
   */
  async getExec(
    box: string,
    execId: string,
    { waitS, ...options }: CallOptions & { readonly waitS?: number | undefined } = {},
  ): Promise<Exec> {
    return this.#get(`${execPath(box, execId)}${waitS === undefined ? '' : `?wait=${waitS}`}`, options);
  }

  /** The commands of a box, newest first. @throws BOX_NOT_FOUND */
  async listExecs(box: string, options?: CallOptions): Promise<Exec[]> {
    return (await this.pageOfExecs(box, {}, options)).rows;
  }

  /** One page of the commands of a box, newest first. @throws BOX_NOT_FOUND */
  async pageOfExecs(box: string, page: PageOptions, options: CallOptions = {}): Promise<Page<Exec>> {
    return readPage(this.#transport, `${boxPath(box)}/execs`, new URLSearchParams(), { ...page, ...options });
  }

  /** Each command of a box, newest first. `limit` is the number of commands in one request. @throws BOX_NOT_FOUND */
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
   * The output events of a command from its first byte, and its exit. It reconnects when a connection is lost. Leaving
   * the loop does not change the command.
   * @throws BOX_NOT_FOUND, EXEC_NOT_FOUND
   */
  execEvents(
    exec: Pick<Exec, 'id' | 'box_id'>,
    options: ExecEventsOptions = {},
  ): AsyncGenerator<ExecEvent, void, void> {
    return readExecEvents(this.#transport, exec, options);
  }

  /**
   * Runs a command and gives its output events as they come. The exit is the last event. If the caller leaves the loop
   * or aborts the signal, the command is killed.
   * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING
   */
  async *execStream(box: string, command: Command, options: MakeOptions = {}): AsyncGenerator<ExecEvent, void, void> {
    // The start is not aborted at once: only its answer says which command is to be killed.
    const exec = await this.startExec(box, command, { ...options, ...abortsLater(options, cancelTimeoutMs) });
    let mustCancel = true;
    try {
      for await (const event of this.execEvents(exec, signalOf(options))) {
        if (event.type === 'exit') mustCancel = false;
        yield event;
      }
    } catch (error) {
      // If only the connection failed, the caller may still want the command, so it is not canceled.
      if (options.signal?.aborted !== true) mustCancel = false;
      throw error;
    } finally {
      if (mustCancel)
        await this.cancelExec(exec.box_id, exec.id, { signal: AbortSignal.timeout(cancelTimeoutMs) }).catch(
          () => undefined,
        );
    }
  }

  /**
   * Runs a command to its end. If the command fails, that is a result and not an error. Aborting the signal kills the
   * command.
   * @param options.outputBytesMax bytes of output to keep, both streams together; 64 MiB when absent
   * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING; RESOURCE_EXCEEDED if there is more output (the command is killed)
   */
  async exec(
    box: string,
    command: Command,
    { outputBytesMax = outputBytesMaxDefault, ...options }: ExecOptions = {},
  ): Promise<ExecResult> {
    return collectResult(this.execStream(box, command, options), outputBytesMax);
  }

  /**
   * Writes a file into a box, through links. A plain file appears at `path` when it is complete.
   * @param source bytes in any form; a string is the path of a local file
   * @param path absolute path in the box, including the name of the file
   * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING, VALIDATION_ERROR (`path` is a directory, or the local file
   * cannot be read), RUNTIME_ERROR (the disk is full); errors of other sources, unchanged
   */
  async upload(
    box: string,
    source: UploadSource,
    path: string,
    options: CallOptions & UploadAttributes = {},
  ): Promise<void> {
    await uploadFile(this.#transport, source, { boxPath: boxPath(box), path, ...options });
  }

  /**
   * Reads a file from a box.
   * @param path absolute path in the box
   * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING, VALIDATION_ERROR (`path` is a directory), RUNTIME_ERROR (there is no such
   * file)
   */
  async download(box: string, path: string, options: CallOptions = {}): Promise<Download> {
    return downloadFile(this.#transport, { boxPath: boxPath(box), path, ...options });
  }

  /** The files of a box: list, read, write, copy whole directories, watch. */
  files(box: string): BoxFiles {
    return new BoxFiles(this.#transport, boxPath(box));
  }

  /**
   * Opens a terminal with its own shell in a box.
   * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING; these errors may also reject the `exited` of the terminal
   */
  async attach(box: string, { signal, ...settings }: AttachOptions = {}): Promise<Terminal> {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(settings)) if (value !== undefined) query.set(name, String(value));
    return openTerminal(this.#transport, `${boxPath(box)}/attach?${query.toString()}`, boxPath(box), signal);
  }

  /**
   * Connects to a command that was started with `stdin` or `tty`. The caller can send input, and gets the output from
   * the first byte; of a terminal with `detachable`, the newest output.
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
   * Runs one command in a box of its own. The box is removed in every case, also if the signal aborts.
   * @throws RESOURCE_EXCEEDED, IMAGE_PULL_FAILED, VALIDATION_ERROR, RUNTIME_ERROR
   */
  async run(input: RunInput, options?: MakeOptions): Promise<RunOutcome> {
    return runOutcome(await this.#post<RunResult>('/v1/run', input, options));
  }

  /**
   * Runs one command in a box of its own, and gives its output events as they come. The exit is the last event; it
   * comes after the box is removed. Leaving the loop kills the command and removes the box.
   * @throws RESOURCE_EXCEEDED, IMAGE_PULL_FAILED, VALIDATION_ERROR, RUNTIME_ERROR; UNAVAILABLE if the connection is
   * lost
   */
  runStream(input: RunInput, options: RunStreamOptions = {}): AsyncGenerator<ExecEvent, void, void> {
    return readRunEvents(this.#transport, input, options);
  }

  /** Removes boxes that have been stopped or failed for longer than `olderThanS` seconds. */
  async gc(olderThanS = 3600, options?: CallOptions): Promise<GcResult> {
    return this.#post('/v1/gc', { older_than: olderThanS }, options);
  }

  /**
   * The state events from now on, or after the event `since`: boxes are created, changed and removed, commands start
   * and end. The first event is `ready`, or `reset` if the server no longer knows the events after `since`. It
   * reconnects when a connection is lost.
   */
  events(options: StateEventsOptions = {}): AsyncGenerator<StateEvent, void, void> {
    return readStateEvents(this.#transport, options);
  }

  /**
   * The CPUs and memory that boxes reserve and use: first the history of the last hour, then each new sample. It
   * reconnects when a connection is lost.
   */
  usage(options: UsageOptions = {}): AsyncGenerator<UsageEvent, void, void> {
    return readUsage(this.#transport, options);
  }

  /**
   * Ends every open request and terminal with CANCELED, and closes all connections. The shell of a terminal (`attach`)
   * is killed, as when the terminal is closed. Boxes and commands are not changed.
   */
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
