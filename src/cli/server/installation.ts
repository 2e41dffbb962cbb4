// Where this boxrun is installed, how it can be updated, and how npm is run for that.
// The place is found from the running file, so that another boxrun on the same host is never changed.
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runTool } from '../../shared/process/child-process.ts';
import { printLines } from '../render/render.ts';

/** Long, because npm may have to compile a native module. */
const npmTimeoutMs = 15 * 60_000;

/**
 * The prefix of the global npm installation that `file` belongs to. Null if `file` is in a checkout, or in the
 * node_modules of another package.
 */
export function installedPrefix(file: string = fileURLToPath(import.meta.url)): string | null {
  const root = dirname(dirname(file));
  const modules = join('lib', 'node_modules', 'boxrun');
  return root.endsWith(`/${modules}`) ? root.slice(0, -modules.length - 1) || '/' : null;
}

declare const boxrunPublishedName: string | undefined;

/**
 * The name of this package in the public npm registry. The build sets it (`BOXRUN_PUBLISHED_NAME`, see
 * scripts/build.mjs). It is null until the package is published. A guessed name would be dangerous: a stranger could
 * register it, and would then run code on every host that upgrades.
 */
export const publishedName: string | null = (typeof boxrunPublishedName === 'string' && boxrunPublishedName) || null;

export type UpgradePlan =
  | { readonly kind: 'npm'; readonly npmArgs: readonly string[] }
  | { readonly kind: 'by hand'; readonly lines: readonly string[] };

/**
 * Decides what `boxrun upgrade` does.
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

/** Prints the npm command and runs it, unless it is a dry run. Returns npm's exit code. */
export async function runNpm(args: readonly string[], isDryRun: boolean): Promise<number> {
  printLines(`${isDryRun ? 'Would run' : 'Running'}: npm ${args.join(' ')}`);
  if (isDryRun) return 0;
  const { exitCode, stdout, stderr } = await runTool('npm', args, { timeoutMs: npmTimeoutMs });
  process.stdout.write(stdout);
  process.stderr.write(stderr);
  return exitCode;
}
