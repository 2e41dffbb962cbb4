// A box with methods: the fields of the box, and the client's calls for this box.
// Each method only calls the client with the id of the box. So it works the same on Node and in browsers.
import type { Box, BoxProcess, BoxStats, Exec } from '../shared/api.ts';
import { BoxRunError } from '../shared/errors.ts';
import type { BoxFiles } from './box-files.ts';
import type { ExecEvent } from './event-stream.ts';
import type { ExecResult } from './exec-result.ts';
import type { Download, UploadAttributes, UploadSource } from './files.ts';
import type { Page, PageOptions } from './lists.ts';
import type {
  CallOptions,
  Command,
  ExecOptions,
  MakeOptions,
  RemoveOptions,
  StopOptions,
  UpdateBoxInput,
} from './options.ts';
import type { BoxPorts } from './ports.ts';
import type { AttachExecOptions, AttachOptions, Terminal } from './terminal.ts';

/** The part of the client that a box needs. BoxRunClient has it; this type avoids an import in a circle. */
interface BoxCalls {
  getBox(box: string, options?: CallOptions): Promise<Box>;
  boxStats(box: string, options?: CallOptions): Promise<BoxStats>;
  processes(box: string, options?: CallOptions): Promise<BoxProcess[]>;
  signalProcess(box: string, pid: number, name: string, options?: CallOptions): Promise<void>;
  ports(box: string): BoxPorts;
  startBox(box: string, options?: CallOptions): Promise<Box>;
  stopBox(box: string, options?: StopOptions): Promise<Box>;
  restartBox(box: string, options?: StopOptions): Promise<Box>;
  updateBox(box: string, changes: UpdateBoxInput, options?: CallOptions): Promise<Box>;
  removeBox(box: string, options?: RemoveOptions): Promise<void>;
  exec(box: string, command: Command, options?: ExecOptions): Promise<ExecResult>;
  execStream(box: string, command: Command, options?: MakeOptions): AsyncGenerator<ExecEvent, void, void>;
  startExec(box: string, command: Command, options?: MakeOptions): Promise<Exec>;
  getExec(box: string, execId: string, options?: CallOptions & { readonly waitS?: number | undefined }): Promise<Exec>;
  listExecs(box: string, options?: CallOptions): Promise<Exec[]>;
  pageOfExecs(box: string, page: PageOptions, options?: CallOptions): Promise<Page<Exec>>;
  eachExec(box: string, page?: PageOptions, options?: CallOptions): AsyncGenerator<Exec, void, void>;
  cancelExec(box: string, execId: string, options?: CallOptions): Promise<Exec>;
  signalExec(box: string, execId: string, name: string, options?: CallOptions): Promise<Exec>;
  attachExec(box: string, execId: string, options?: AttachExecOptions): Promise<Terminal>;
  upload(box: string, source: UploadSource, path: string, options?: CallOptions & UploadAttributes): Promise<void>;
  download(box: string, path: string, options?: CallOptions): Promise<Download>;
  attach(box: string, options?: AttachOptions): Promise<Terminal>;
  files(box: string): BoxFiles;
}

/**
 * The fields of a box, and its methods. As JSON, it has only the fields. `start`, `stop`, `restart`, `update` and
 * `refresh` update the fields.
 */
export type BoxHandle = Readonly<Box> & BoxMethods;

export function createBoxHandle(client: BoxCalls, box: Box): BoxHandle {
  return Object.assign(new BoxMethods(client, box.id), box);
}

/**
 * Each method calls the method of BoxRunClient with the same or a similar name. See there for parameters and errors.
 */
class BoxMethods implements AsyncDisposable {
  readonly #client: BoxCalls;
  readonly #id: string;

  constructor(client: BoxCalls, id: string) {
    this.#client = client;
    this.#id = id;
  }

  /** The files of the box. It is no field, so JSON has nothing of it. */
  get files(): BoxFiles {
    return this.#client.files(this.#id);
  }

  async refresh(options?: CallOptions): Promise<void> {
    Object.assign(this, await this.#client.getBox(this.#id, options));
  }

  async stats(options?: CallOptions): Promise<BoxStats> {
    return this.#client.boxStats(this.#id, options);
  }

  async processes(options?: CallOptions): Promise<BoxProcess[]> {
    return this.#client.processes(this.#id, options);
  }

  async signalProcess(pid: number, name: string, options?: CallOptions): Promise<void> {
    await this.#client.signalProcess(this.#id, pid, name, options);
  }

  /** The TCP ports of the box. */
  get ports(): BoxPorts {
    return this.#client.ports(this.#id);
  }

  async start(options?: CallOptions): Promise<void> {
    Object.assign(this, await this.#client.startBox(this.#id, options));
  }

  async stop(options?: StopOptions): Promise<void> {
    Object.assign(this, await this.#client.stopBox(this.#id, options));
  }

  async restart(options?: StopOptions): Promise<void> {
    Object.assign(this, await this.#client.restartBox(this.#id, options));
  }

  async update(changes: UpdateBoxInput, options?: CallOptions): Promise<void> {
    Object.assign(this, await this.#client.updateBox(this.#id, changes, options));
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

  async upload(source: UploadSource, path: string, options?: CallOptions & UploadAttributes): Promise<void> {
    await this.#client.upload(this.#id, source, path, options);
  }

  async download(path: string, options?: CallOptions): Promise<Download> {
    return this.#client.download(this.#id, path, options);
  }

  async attach(options?: AttachOptions): Promise<Terminal> {
    return this.#client.attach(this.#id, options);
  }

  /** Removes the box even if it runs. It is no error if the box is already removed. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.remove({ force: true });
    } catch (error) {
      if (!(error instanceof BoxRunError && error.code === 'BOX_NOT_FOUND')) throw error;
    }
  }
}
