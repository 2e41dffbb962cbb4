// The boxes that a command acts on: named ones, those with a label, or all. Each box is one request. A box that fails
// keeps no other box from its turn.
import { limits } from '../../shared/limits.ts';
import type { Box, BoxRunClient } from '../../sdk/index.ts';
import { UsageError } from '../parsing/options.ts';
import { printError } from '../render/render.ts';
import { withBox } from './id-prefixes.ts';

export const targetOptions = {
  label: {
    type: 'list',
    alias: 'l',
    describe: 'all boxes with this label, KEY or KEY=VALUE; may be repeated',
  },
  all: { type: 'flag', alias: 'a', describe: 'all boxes' },
} as const;

export interface TargetWords {
  readonly box: readonly string[];
  readonly label: readonly string[];
  readonly all: boolean;
}

/** Whether the user named exactly one box. */
export function isOneBox({ box }: TargetWords): boolean {
  return box.length === 1;
}

/** @throws UsageError unless boxes are named in exactly one way */
export function checkTargets(command: string, { box, label, all }: TargetWords): void {
  const ways = [box.length > 0, label.length > 0, all].filter(Boolean).length;
  if (ways === 0) throw new UsageError(`name a box, as in: boxrun ${command} web`);
  if (ways > 1) throw new UsageError('name boxes, or use --label, or use --all');
}

/**
 * The ids or names of the boxes, without repetitions.
 * @param fits the boxes that --label and --all mean; a named box is always meant
 */
export async function findTargets(
  client: BoxRunClient,
  { box, label }: TargetWords,
  fits: (box: Box) => boolean,
): Promise<readonly string[]> {
  if (box.length > 0) return [...new Set(box)];
  const found = (await client.listBoxes({ labels: label })).filter(fits);
  if (found.length === 0) process.stderr.write('boxrun: there is no such box\n');
  return found.map(({ id, name }) => name ?? id);
}

/**
 * Does `work` for each box, several at once, and shows the results in the order of the boxes.
 * @returns the exit code: 1 if it failed for a box
 */
export async function forEachBox<T>(
  client: BoxRunClient,
  boxes: readonly string[],
  work: (box: string) => Promise<T>,
  show: (box: string, result: T) => void,
): Promise<number> {
  let exitCode = 0;
  for (let from = 0; from < boxes.length; from += limits.cliBoxesAtOnce) {
    const some = boxes.slice(from, from + limits.cliBoxesAtOnce);
    const results = await Promise.allSettled(some.map((box) => withBox(client, box, work)));
    for (const [at, result] of results.entries()) {
      if (result.status === 'fulfilled') show(some[at] ?? '', result.value);
      else {
        exitCode = 1;
        printError(result.reason);
      }
    }
  }
  return exitCode;
}
