// Where this boxrun is installed, how it can be updated, and npm at work on it.
// The place is that of the running file: another boxrun on this host is never touched.
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runTool } from '../../shared/process/child-process.ts';
import { printLines } from '../render/render.ts';

/** A native module may have to be compiled. */
const npmTimeoutMs = 15 * 60_000;

/**
 * The prefix of the global npm installation that this file belongs to; null for a checkout, or a package inside another
 * one.
 */
export function installedPrefix(file: string = fileURLToPath(import.meta.url)): string | null {
  const root = dirname(dirname(file));
  const modules = join('lib', 'node_modules', 'boxrun');
  return root.endsWith(`/${modules}`) ? root.slice(0, -modules.length - 1) || '/' : null;
}

declare const boxrunPublishedName: string | undefined;

/**
 * The name of this package in the public npm registry. The build sets it (`BOXRUN_PUBLISHED_NAME`, see
 * scripts/build.mjs). It is null until the package is published: whoever registers a name that nobody owns runs code on
 * every host that installs it.
 */
export const publishedName: string | null = (typeof boxrunPublishedName === 'string' && boxrunPublishedName) || null;

export type UpgradePlan =
  | { readonly kind: 'npm'; readonly npmArgs: readonly string[] }
  | { readonly kind: 'by hand'; readonly lines: readonly string[] };

/**
 * What `boxrun upgrade` does.
 *
 * @param prefix of the global npm installation; null for a checkout
 * @param name under which the package is published; null if it is not
 */
export function planUpgrade(prefix: string | null, name: string | null): UpgradePlan {
  if (prefix === null) {
    return {
      kind: 'by hand',
      lines: ['It runs from a checkout. To update it, run there:', '  git pull && npm ci && npm run build'],
    };
  }
  if (name === null) {
    const lines = [
      'BoxRun is not published in a package registry, so npm cannot fetch a newer version.',
      'To update, run in an up-to-date checkout of BoxRun:',
      '  npm ci && npm pack',
      `  npm install --global --prefix ${prefix} ./boxrun-*.tgz`,
    ];
    return { kind: 'by hand', lines };
  }
  return { kind: 'npm', npmArgs: ['install', '--global', '--prefix', prefix, `${name}@latest`] };
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
