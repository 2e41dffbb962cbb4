// Where this boxrun is installed, and npm at work on it. Used by upgrade and uninstall.
// The place is that of the running file: another boxrun on this host is never touched.
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runTool } from '../shared/child-process.ts';
import { printLines } from './render.ts';

/** A native module may have to be compiled. */
const npmTimeoutMs = 15 * 60_000;

/** The prefix of the global npm installation that this file belongs to; null for a checkout, or a package inside another one. */
export function installedPrefix(file: string = fileURLToPath(import.meta.url)): string | null {
  const root = dirname(dirname(file));
  const modules = join('lib', 'node_modules', 'boxrun');
  return root.endsWith(`/${modules}`) ? root.slice(0, -modules.length - 1) || '/' : null;
}

/** Says what is run, runs it unless it is a dry run, and gives npm's exit code. */
export async function runNpm(args: readonly string[], isDryRun: boolean): Promise<number> {
  printLines(`${isDryRun ? 'Would run' : 'Running'}: npm ${args.join(' ')}`);
  if (isDryRun) return 0;
  const { exitCode, stdout, stderr } = await runTool('npm', args, { timeoutMs: npmTimeoutMs });
  process.stdout.write(stdout);
  process.stderr.write(stderr);
  return exitCode;
}
