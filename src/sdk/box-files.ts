// The files of one box: what they are, their bytes, directories as tar archives, and what changes. Each call is one
// request to /fs. The box resolves the paths. A relative path starts at the box's working directory.
import type { FileChange, FileEntry, FileList } from '../shared/api.ts';
import { streamOf } from './byte-stream.ts';
import { errorOfAnswer } from './errors.ts';
import {
  contentOf,
  downloadOf,
  localFiles,
  readDownload,
  type Download,
  type UploadAttributes,
  type UploadSource,
} from './files.ts';
import { readMessages } from './messages.ts';
import type { CallOptions } from './options.ts';
import type { Transport } from './transport.ts';

export interface FileOptions extends CallOptions {
  /** Whose rights count: a name or a number, as for commands. Root of the box when absent. */
  readonly user?: string | undefined;
}

/** A range of a file. */
export interface ReadOptions extends FileOptions {
  /** In bytes; negative from the end of the file. 0 when absent. */
  readonly offset?: number | undefined;
  /** How many bytes; all up to the end when absent. Not with a negative offset. */
  readonly bytes?: number | undefined;
}

export interface WriteOptions extends FileOptions, UploadAttributes {
  /** False: a missing directory is an error. True when absent. */
  readonly parents?: boolean | undefined;
}

export interface DirectoryOptions extends FileOptions {
  /** Called with a text for each file that changed during the copy or could not be copied. */
  readonly onWarning?: ((text: string) => void) | undefined;
}

type Query = Readonly<Record<string, string | number | undefined>>;

/** What happened to a file. After `overflow`, changes were lost: list the directory again. */
export interface FileChangeEvent extends FileChange {
  readonly type:
    'ready' | 'created' | 'modified' | 'written' | 'attributes' | 'moved_from' | 'moved_to' | 'removed' | 'overflow';
}

/** A tar archive of a directory that is being read. */
export interface DirectoryArchive {
  readonly body: ReadableStream<Uint8Array>;
  /** After the body: files that could not be read, and files that changed meanwhile. Not known in browsers. */
  warnings(): { readonly leftOut: readonly string[]; readonly changed: readonly string[] };
}

/**
 * Every method may throw BOX_NOT_FOUND, BOX_NOT_RUNNING, FILE_NOT_FOUND, VALIDATION_ERROR (the path cannot be used so),
 * and RUNTIME_ERROR (the box refuses it, its disk is full, or the box has no agent for files).
 */
export class BoxFiles {
  readonly #transport: Transport;
  readonly #path: string;

  /** @param boxPath the path of the box in the API */
  constructor(transport: Transport, boxPath: string) {
    this.#transport = transport;
    this.#path = `${boxPath}/fs`;
  }

  /** @param options.follow false: a link itself, and not what it leads to */
  async stat(path: string, { follow = true, ...options }: FileOptions & { readonly follow?: boolean } = {}) {
    return this.#get<FileEntry>('stat', { path, ...(follow ? {} : { follow: 'false' }) }, options);
  }

  /** The files in a directory, by name. @param options.limit the largest number of files; a million when absent */
  async list(path: string, { limit, ...options }: FileOptions & { readonly limit?: number } = {}) {
    const { entries } = await this.#get<FileList>('list', { path, limit }, options);
    return entries.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  }

  /** The bytes of a file, or a range of them. */
  async read(path: string, { offset = 0, bytes, user, signal }: ReadOptions = {}): Promise<Download> {
    const end = bytes === undefined ? '' : String(offset + bytes - 1);
    const isWhole = offset === 0 && bytes === undefined;
    const response = await this.#transport.send({
      method: 'GET',
      path: this.#url('read', { path, user }),
      accept: 'application/octet-stream, application/json',
      ...(isWhole ? {} : { headers: { range: offset < 0 ? `bytes=${offset}` : `bytes=${offset}-${end}` } }),
      signal,
    });
    return downloadOf(this.#transport, response, signal);
  }

  /** The whole file as UTF-8, in memory. */
  async readText(path: string, options: FileOptions = {}): Promise<string> {
    return (await this.read(path, options)).text();
  }

  /**
   * Writes a file. Its readers see the old content or the whole new one.
   * @param content a text, or bytes in any form
   */
  async write(
    path: string,
    content: string | Exclude<UploadSource, string>,
    { parents = true, mode, modified, user, signal }: WriteOptions = {},
  ): Promise<void> {
    const query = {
      ...{ path, user, parents: String(parents) },
      ...(mode === undefined ? {} : { mode: mode.toString(8) }),
      ...(modified === undefined ? {} : { mtime: String(modified.getTime() / 1000) }),
    };
    await this.#send(this.#url('write', query), content, signal);
  }

  async mkdir(
    path: string,
    { mode, parents = false, ...options }: FileOptions & { readonly mode?: number; readonly parents?: boolean } = {},
  ): Promise<void> {
    await this.#post('mkdir', { path, parents, ...(mode === undefined ? {} : { mode: mode.toString(8) }) }, options);
  }

  /** @param options.replace true: what has the new name already is replaced */
  async rename(path: string, to: string, { replace = false, ...options }: FileOptions & { replace?: boolean } = {}) {
    await this.#post('rename', { path, to, replace }, options);
  }

  /** @param options.recursive true: a directory is removed with everything in it */
  async remove(path: string, { recursive = false, ...options }: FileOptions & { recursive?: boolean } = {}) {
    await this.#post('remove', { path, recursive }, options);
  }

  /** @param mode the permission bits, 0 to 0o7777 */
  async chmod(path: string, mode: number, options: FileOptions = {}): Promise<void> {
    await this.#post('chmod', { path, mode: mode.toString(8) }, options);
  }

  /** @param owner the numbers of a user and a group; what is absent stays as it is */
  async chown(
    path: string,
    owner: { readonly uid?: number; readonly gid?: number },
    { follow = true, ...options }: FileOptions & { readonly follow?: boolean } = {},
  ): Promise<void> {
    await this.#post('chown', { path, ...owner, follow }, options);
  }

  /**
   * The changes in a directory from now on; the first one is `ready`. The loop ends when the directory is removed. It
   * does not reconnect, because changes would be lost: after UNAVAILABLE, list the directory and watch it again.
   */
  async *watch(
    path: string,
    { recursive = false, user, signal }: FileOptions & { readonly recursive?: boolean } = {},
  ): AsyncGenerator<FileChangeEvent, void, void> {
    const url = this.#url('watch', { path, user, recursive: String(recursive) });
    for await (const { event = '', data } of readMessages(this.#transport, { method: 'GET', path: url, signal })) {
      if (event === 'error') throw errorOfAnswer(200, data);
      yield { ...(JSON.parse(data) as FileChange), type: event as FileChangeEvent['type'] };
    }
  }

  /** A directory as a tar archive, packed while it is read. */
  async pack(path: string, { user, signal }: FileOptions = {}): Promise<DirectoryArchive> {
    const response = await this.#transport.send({
      method: 'GET',
      path: this.#url('archive', { path, user }),
      accept: 'application/octet-stream, application/json',
      signal,
    });
    const texts = (name: string) => JSON.parse(response.trailers?.get(name) ?? '[]') as string[];
    return {
      body: streamOf(readDownload(this.#transport, response.body, signal)),
      warnings: () => ({ leftOut: texts('x-boxrun-left-out'), changed: texts('x-boxrun-changed') }),
    };
  }

  /**
   * Unpacks a tar archive into a directory, which is made if it is missing.
   * @param options.owners true: files get the owners that the archive names, by number. Otherwise they belong to the
   * user
   * @returns what could not be made, such as devices
   */
  async unpack(
    path: string,
    archive: Exclude<UploadSource, string>,
    { owners = false, user, signal }: FileOptions & { readonly owners?: boolean } = {},
  ): Promise<readonly string[]> {
    const url = this.#url('archive', { path, user, owners: String(owners) });
    return (await this.#send<{ left_out: string[] }>(url, archive, signal)).left_out;
  }

  /** Copies a local directory into a directory of the box, with modes, times and links. Not in browsers. */
  async uploadDir(local: string, path: string, { onWarning, ...options }: DirectoryOptions = {}): Promise<void> {
    const warn = onWarning ?? (() => undefined);
    const packed = localFiles(this.#transport.platform.files).pack(local, { warn, signal: options.signal });
    for (const text of await this.unpack(path, packed, options)) warn(text);
  }

  /** Copies a directory of the box into a local directory, which is made if it is missing. Not in browsers. */
  async downloadDir(path: string, local: string, { onWarning, ...options }: DirectoryOptions = {}): Promise<void> {
    const files = localFiles(this.#transport.platform.files);
    const archive = await this.pack(path, options);
    await files.unpack(local, archive.body, options.signal);
    const { leftOut, changed } = archive.warnings();
    for (const text of [...changed, ...leftOut]) onWarning?.(text);
  }

  #url(operation: string, query: Query): string {
    const given = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value !== undefined) given.set(name, String(value));
    return `${this.#path}/${operation}?${given.toString()}`;
  }

  async #get<T>(operation: string, query: Query, { user, signal }: FileOptions) {
    return this.#transport.json<T>({ method: 'GET', path: this.#url(operation, { ...query, user }), signal });
  }

  async #post(operation: string, body: object, { user, signal }: FileOptions): Promise<void> {
    const json = { ...body, ...(user === undefined ? {} : { user }) };
    await this.#transport.json({ method: 'POST', path: `${this.#path}/${operation}`, json, signal });
  }

  async #send<T>(path: string, content: UploadSource, signal: AbortSignal | undefined): Promise<T> {
    const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
    const { content: body, headers, failure } = await contentOf(this.#transport, bytes);
    try {
      return await this.#transport.json<T>({
        method: 'POST',
        path,
        body,
        contentType: 'application/octet-stream',
        headers,
        signal,
      });
    } catch (error) {
      throw failure(error);
    }
  }
}
