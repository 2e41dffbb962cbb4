// An upload's body: a form with the fields `file` and `dest`, in any order, read as a stream. A file that comes before
// its destination is known is kept in a temporary file; nothing is held in memory as a whole. Called by
// routes/files.ts.
import { Busboy, type BusboyInstance } from '@fastify/busboy';
import { createReadStream, createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { utf8Text } from './well-formed.ts';
import type { Spools } from './spools.ts';

/** Takes a file to its destination; resolves when it stands there. */
export type TakeFile = (file: Readable, dest: string) => Promise<void>;

const fieldBytesMax = 16 * 1024;
const fieldsMax = 16;

/**
 * Reads the form and gives its file to `take`, which may end early. Resolves with the destination when `take` has
 * ended.
 * @throws VALIDATION_ERROR for a form without one of the fields, and what `take` throws
 */
export async function readUpload(request: IncomingMessage, spools: Spools, take: TakeFile): Promise<string> {
  const form = openForm(request);
  let dest: Promise<string> | null = null;
  let taken: Promise<void> | null = null;
  let spool: string | null = null;
  let spooled: Promise<string> | null = null;
  let current: Readable | null = null;
  let failForm: (error: Error) => void = () => undefined;
  const read = new Promise<void>((resolve, reject) => {
    failForm = reject;
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
      // What fails is told at once: whatever is still to come is of no interest.
      if (dest !== null) {
        current = file;
        taken = dest.then((path) => take(file, path));
        taken.catch(reject);
      } else {
        spooled = keep(file, spools, (path) => {
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
    if (path === null || path === '') throw missing("the field 'dest' is missing");
    const waiting = spooled as Promise<string> | null;
    if (waiting !== null) {
      current = createReadStream(await waiting);
      taken = take(current, path);
    }
    if (taken === null) throw missing("the field 'file' is missing");
    await taken;
    return path;
  } catch (error) {
    request.unpipe(form);
    await takeInVain(request);
    throw error;
  } finally {
    form.destroy();
    current?.destroy(); // Whoever takes it must not wait for more.
    if (spool !== null) await rm(spool, { recursive: true, force: true });
  }
}

/**
 * Many clients read a refusal only when they have sent everything: their rest is taken, for a while. Who reads earlier
 * gets it at once; but where the answer ends the connection, what is still on its way would be answered with a reset,
 * so it waits.
 */
async function takeInVain(request: IncomingMessage): Promise<void> {
  if (request.complete || request.destroyed) return;
  request.resume();
  const over = new Promise<void>((resolve) => {
    const timer = setTimeout(() => {
      request.destroy();
    }, limits.uploadRefusedMs);
    for (const end of ['end', 'close'] as const) {
      request.once(end, () => {
        clearTimeout(timer);
        resolve();
      });
    }
  });
  const endsConnection = request.httpVersion === '1.0' || /\bclose\b/i.test(request.headers.connection ?? '');
  if (endsConnection) await over;
}

function openForm(request: IncomingMessage): BusboyInstance {
  const contentType = request.headers['content-type'] ?? '';
  try {
    return new Busboy({
      headers: { ...request.headers, 'content-type': contentType },
      limits: { fieldSize: fieldBytesMax, fields: fieldsMax, files: fieldsMax },
      // The destination is a path, whose bytes count: as a field it would come with U+FFFD for what is no text.
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
    if (bytes > fieldBytesMax) throw missing("'dest' is too long");
  }
  return utf8Text(Buffer.concat(pieces), "'dest'");
}

async function keep(file: Readable, spools: Spools, made: (path: string) => void): Promise<string> {
  const directory = await spools.make();
  made(directory);
  const path = join(directory, 'file');
  await pipeline(file, spools.withRoom, createWriteStream(path, { mode: 0o600 }));
  return path;
}

function missing(message: string): BoxRunError {
  return new BoxRunError('VALIDATION_ERROR', message, {
    status: 400,
    hint: "send a form with the fields 'file' and 'dest'",
  });
}

function badForm(error: unknown): BoxRunError {
  return new BoxRunError(
    'VALIDATION_ERROR',
    `the body is no form: ${error instanceof Error ? error.message : String(error)}`,
    { status: 400 },
  );
}
