// Unpacks an image once during its import, as a test, with the tool of the container driver. So the import already
// refuses an image that a create would refuse later, for example for a hard link without a target. The headers alone do
// not show such an error.
import { rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { runTool } from '../process/child-process.ts';
import { BoxRunError } from '../errors.ts';
import { limits } from '../limits.ts';

/**
 * Unpacks the layout in `dir` and removes the result. It does nothing if the container driver cannot work either: for
 * users other than root, or without umoci.
 * @throws VALIDATION_ERROR if the layout cannot be unpacked
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
