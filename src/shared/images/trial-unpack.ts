// Unpacks an image that is imported once, for trial, with the tool that the container driver uses. So an import
// refuses what a create would refuse later (a hard link to nothing, for example), which nobody can tell from headers
// alone.
import { rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { runTool } from '../process/child-process.ts';
import { BoxRunError } from '../errors.ts';
import { limits } from '../limits.ts';

/**
 * Does nothing where the container driver cannot work either: for users other than root, and without umoci.
 * @throws VALIDATION_ERROR when the layout in `dir` cannot be unpacked
 */
export async function tryUnpack(dir: string): Promise<void> {
  if (process.getuid?.() !== 0 || !(await hasUnpacker())) return;
  const target = join(dir, 'trial');
  try {
    const unpack = ['raw', 'unpack', '--image', `${basename(dir)}:latest`, target];
    const { exitCode, stderr } = await runTool('umoci', unpack, {
      timeoutMs: limits.imagePrepareTimeoutMs,
      cwd: dirname(dir),
    });
    if (exitCode === 0) return;
    const reason = stderr.trim().split('\n').pop() ?? 'umoci refused it';
    throw new BoxRunError('VALIDATION_ERROR', `the image cannot be unpacked: ${reason}`, {
      hint: 'build or export the image again',
    });
  } finally {
    await rm(target, { recursive: true, force: true });
  }
}

async function hasUnpacker(): Promise<boolean> {
  const version = await runTool('umoci', ['--version'], { timeoutMs: limits.imagePrepareTimeoutMs }).catch(() => null);
  return version?.exitCode === 0;
}
