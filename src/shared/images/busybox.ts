// Finds the static busybox of the host. The base image contains it, and drivers mount it into boxes, because an image
// may have no shell. A file is accepted only if its ELF headers show a static program.
import { open, realpath } from 'node:fs/promises';
import { BoxRunError, lacksDescriptors } from '../errors.ts';

const candidates = [
  '/bin/busybox',
  '/usr/bin/busybox',
  '/bin/busybox-static',
  '/usr/bin/busybox-static',
  '/bin/busybox.static',
];
const programHeaderInterpreter = 3;

/**
 * The path of a static busybox, without links.
 * @throws RUNTIME_ERROR if there is none; the hint names the package to install
 */
export async function findBusybox(): Promise<string> {
  for (const candidate of candidates) {
    const path = await realpath(candidate).catch(() => null);
    if (path !== null && (await isStaticProgram(path))) return path;
  }
  throw new BoxRunError('RUNTIME_ERROR', 'there is no static busybox on this host', {
    hint: 'install the package busybox-static (apt install busybox-static)',
  });
}

/** True if the file is a 64-bit ELF program that needs no dynamic loader. */
export async function isStaticProgram(path: string): Promise<boolean> {
  const file = await open(path, 'r').catch((error: unknown) => {
    if (lacksDescriptors(error)) throw error;
    return null;
  });
  if (file === null) return false;
  try {
    const head = Buffer.alloc(4096);
    const { bytesRead } = await file.read(head, 0, head.length, 0);
    if (bytesRead < 64 || head.readUInt32BE(0) !== 0x7f454c46 || head[4] !== 2 || head[5] !== 1) return false;
    const tableOffset = Number(head.readBigUInt64LE(32));
    const entryBytes = head.readUInt16LE(54);
    const entries = head.readUInt16LE(56);
    if (entries === 0 || tableOffset + entries * entryBytes > bytesRead) return false;
    for (let index = 0; index < entries; index += 1) {
      if (head.readUInt32LE(tableOffset + index * entryBytes) === programHeaderInterpreter) return false;
    }
    return true;
  } finally {
    await file.close();
  }
}
