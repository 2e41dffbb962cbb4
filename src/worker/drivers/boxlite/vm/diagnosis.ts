// The reason for which a VM did not start, or ended. It is found in files that the engine left in the box's directory.
// It is one short text for the user, and the ends of the engine's logs for the log.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface Diagnosis {
  readonly reason: string;
  /** The last part of each of the engine's logs for this box. */
  readonly logs: Readonly<Record<string, string>>;
}

const tailBytes = 4_000;

/** Never throws: a file that is missing counts as empty. */
export async function diagnose(boxDir: string): Promise<Diagnosis> {
  const containers = join(boxDir, 'mounts', 'containers');
  const container = (await readdir(containers).catch(() => []))[0] ?? '';
  const [exit, previousExit, init, stderr, consoleText] = await Promise.all([
    readTail(join(boxDir, 'exit')),
    readTail(join(boxDir, 'exit.previous')),
    readTail(join(containers, container, 'exit.json')),
    readTail(join(boxDir, 'shim.stderr')),
    readTail(join(boxDir, 'logs', 'console.log')),
  ]);
  const shimLog = (await readdir(join(boxDir, 'logs')).catch(() => []))
    .filter((name) => name.startsWith('boxlite-shim'))
    .sort()
    .at(-1);
  const shim = shimLog === undefined ? '' : await readTail(join(boxDir, 'logs', shimLog));
  return {
    reason: reasonOf(exit !== '' ? exit : previousExit, init, stderr),
    logs: { exit, previousExit, stderr, shim, console: consoleText },
  };
}

/**
 * Returns the reason for the user. Each parameter may be empty. Pure.
 * @param shimExit the shim's record of its own end, as JSON
 * @param initExit the record of the end of the box's process 1, as JSON
 * @param stderr the last lines that the shim wrote to stderr
 */
export function reasonOf(shimExit: string, initExit: string, stderr: string): string {
  const shim = parse(shimExit);
  if (shim !== null) {
    if (typeof shim['signal'] === 'string') return `the VM was killed by ${shim['signal']}`;
    if (typeof shim['message'] === 'string') return `the VM ended: ${shim['message'].split('\n', 1)[0]}`;
  }
  const init = parse(initExit);
  if (init !== null && typeof init['exit_code'] === 'number') {
    return `the box was shut down from inside (process 1 ended with ${init['exit_code']})`;
  }
  const complaint = /\sERROR [^\]]*\] ([^\n]+)\n?$/.exec(stderr)?.[1];
  return complaint === undefined ? 'the VM is gone' : `the VM ended: ${complaint}`;
}

function parse(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null; // The file is empty, missing or incomplete.
  }
}

async function readTail(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch(() => '');
  // The console of the guest has colour codes, which are removed.
  return text
    .slice(-tailBytes)
    .replace(/\u001b\[[0-9;]*m/g, '')
    .trim();
}
