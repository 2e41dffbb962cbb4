// Reads the body of an upload as a stream: a form with the fields `file` and `dest`, in any order. Before `file` it may
// have the fields `mode` and `mtime`.
// If the file comes before its destination, the gateway keeps it in a temporary file. It never holds a whole file in
// memory.
import { Busboy, type BusboyInstance } from '@fastify/busboy';
import { createReadStream, createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import { discardRest } from './discard-rest.ts';
import { utf8Text } from './well-formed.ts';
import type { Spools } from './spools.ts';

/** What the form says about the file in the box. */
export interface UploadPlace {
  readonly path: string;
  /** The permission bits. */
  readonly mode?: number;
  /** Seconds since 1970. */
  readonly mtimeS?: number;
}

/** Writes a file to its destination. Resolves when the file is there. */
export type TakeFile = (file: Readable, place: UploadPlace) => Promise<void>;

const fieldBytesMax = 16 * 1024;
const fieldsMax = 16;

/**
 * Reads the form and gives its file to `take`. Resolves with the destination when `take` has resolved.
 * @param take may fail before it has read the whole file
 * @throws VALIDATION_ERROR for a form that is not valid or lacks a field
 * @throws CANCELED when the client closes the connection before the form is complete
 * @throws RESOURCE_EXCEEDED when the disk has no room for the temporary file
 * @throws the errors of `take`
 */
export async function readUpload(request: IncomingMessage, spools: Spools, take: TakeFile): Promise<string> {
  const form = openForm(request);
  let dest: Promise<string> | null = null;
  let taken: Promise<void> | null = null;
  let spool: string | null = null;
  let spooled: Promise<string> | null = null;
  let current: Readable | null = null;
  let failForm: (error: Error) => void = () => undefined;
  const about: Pick<UploadPlace, 'mode' | 'mtimeS'> = {};
  const read = new Promise<void>((resolve, reject) => {
    failForm = reject;
    form.on('field', (name, value) => {
      if (name !== 'mode' && name !== 'mtime') return;
      try {
        if (taken !== null || spooled !== null) throw badUpload(`the field '${name}' must come before 'file'`);
        Object.assign(about, name === 'mode' ? { mode: readMode(value) } : { mtimeS: readTime(value) });
      } catch (error) {
        reject(toBoxRunError(error));
      }
    });
    form.on('file', (name, file) => {
      file.on('error', reject);
      if (name === 'dest') {
        dest = readDestination(file);
        dest.catch(reject);
        return;
      }
      if (name !== 'file' || taken !== null || spooled !== null) {
        file.resume();
        return;
      }
      // An error of `take` or of the temporary file rejects at once. The rest of the form does not matter then.
      if (dest !== null) {
        current = file;
        taken = dest.then((path) => take(file, { path, ...about }));
        taken.catch(reject);
      } else {
        spooled = spoolFile(file, spools, (path) => {
          spool = path;
        });
        spooled.catch(reject);
      }
    });
    form.on('finish', resolve);
    form.on('error', (error) => {
      reject(badForm(error));
    });
  });
  request.on('error', failForm);
  request.on('close', () => {
    if (!request.complete) failForm(new BoxRunError('CANCELED', 'the client left'));
  });
  try {
    request.pipe(form);
    await read;
    const path = await (dest as Promise<string> | null);
    if (path === null || path === '') throw badUpload("the field 'dest' is missing");
    const waiting = spooled as Promise<string> | null;
    if (waiting !== null) {
      current = createReadStream(await waiting);
      taken = take(current, { path, ...about });
    }
    if (taken === null) throw badUpload("the field 'file' is missing");
    await taken;
    return path;
  } catch (error) {
    request.unpipe(form);
    await discardRest(request);
    throw error;
  } finally {
    form.destroy();
    current?.destroy(); // Otherwise `take` could wait for more bytes forever.
    if (spool !== null) await rm(spool, { recursive: true, force: true });
  }
}

function openForm(request: IncomingMessage): BusboyInstance {
  const contentType = request.headers['content-type'] ?? '';
  try {
    return new Busboy({
      headers: { ...request.headers, 'content-type': contentType },
      limits: { fieldSize: fieldBytesMax, fields: fieldsMax, files: fieldsMax },
      // `dest` is read as a file to get its raw bytes. As a field, busboy would replace invalid UTF-8 with U+FFFD.
      isPartAFile: (name, type, fileName) =>
        name === 'dest' || type === 'application/octet-stream' || fileName !== undefined,
    });
  } catch (error) {
    throw badForm(error);
  }
}

async function readDestination(field: Readable): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of field) {
    pieces.push(piece as Buffer);
    bytes += (piece as Buffer).length;
    if (bytes > fieldBytesMax) throw badUpload("'dest' is too long");
  }
  return utf8Text(Buffer.concat(pieces), "'dest'");
}

/** @throws VALIDATION_ERROR unless it is a mode in octal, such as 0644 */
function readMode(text: string): number {
  if (!/^[0-7]{1,5}$/.test(text) || Number.parseInt(text, 8) > 0o7777)
    throw badUpload("'mode' must be an octal number from 0 to 7777");
  return Number.parseInt(text, 8);
}

/** @throws VALIDATION_ERROR unless it is a number of seconds since 1970 that every file system can store */
function readTime(text: string): number {
  const seconds = Number(text);
  if (!/^\d{1,10}(\.\d+)?$/.test(text) || seconds > 0xffff_ffff)
    throw badUpload(`'mtime' must be a number of seconds since 1970, at most ${0xffff_ffff}`);
  return Math.floor(seconds);
}

/** Writes the file to a temporary directory and gives its path. Calls `onDirectory` before it writes anything. */
async function spoolFile(file: Readable, spools: Spools, onDirectory: (path: string) => void): Promise<string> {
  const directory = await spools.make();
  onDirectory(directory);
  const path = join(directory, 'file');
  await pipeline(file, spools.withRoom, createWriteStream(path, { mode: 0o600 }));
  return path;
}

function badUpload(message: string): BoxRunError {
  return new BoxRunError('VALIDATION_ERROR', message, {
    status: 400,
    hint: "send a form with the fields 'file' and 'dest'",
  });
}

function badForm(error: unknown): BoxRunError {
  return new BoxRunError(
    'VALIDATION_ERROR',
    `the body is not a valid form: ${error instanceof Error ? error.message : String(error)}`,
    { status: 400 },
  );
}
