// Asks again and again what boxes use, and prints it. The use of CPUs is a mean between two answers of the server, so
// it is not known in the first table. A box that ends disappears from the table.
import type { BoxRunClient, BoxStats } from '../../sdk/index.ts';
import { toBoxRunError } from '../../shared/errors.ts';
import { sleep } from '../../shared/waiting/clock.ts';
import type { Interrupt } from '../interrupt.ts';
import type { Format } from '../parsing/format.ts';
import { renderStats, statsLine, type BoxUse } from '../render/stats.ts';
import { createWaitNotice } from '../render/waiting.ts';
import { forEachBox } from './box-targets.ts';

/** Milliseconds between two tables, and between the two answers that one table with --no-stream compares. */
const everyMs = 1_000;
const onceMs = 250;

interface StatsOptions {
  /** Empty: all boxes that run. */
  readonly names: readonly string[];
  /** Prints one table and ends. */
  readonly isOnce: boolean;
  /** Cuts nothing to the width of the terminal. */
  readonly isWhole: boolean;
  /** The form of one line for each box. Null: a table. */
  readonly line: Format | null;
}

/**
 * Prints what the boxes use until an interrupt, or until none of the named boxes runs any more.
 * @returns the exit code: 1 if the server gave no figures of a box. That error is printed
 * @throws UNAVAILABLE if no box is named and the list of boxes cannot be read
 */
export async function showStats(
  client: BoxRunClient,
  { names, isOnce, isWhole, line }: StatsOptions,
  interrupt: Interrupt,
): Promise<number> {
  const { signal } = interrupt;
  const notice = isOnce ? createWaitNotice('measuring the use of CPUs') : null;
  const isLive = !isOnce && line === null && process.stdout.isTTY;
  let exitCode = 0;
  let targets = names;
  let before: ReadonlyMap<string, BoxStats> = new Map();
  try {
    for (let round = 0; !signal.aborted; round++) {
      if (names.length === 0) targets = (await client.listBoxes('running')).map(({ id }) => id);
      const uses: BoxUse[] = [];
      const code = await forEachBox(
        client,
        targets,
        (name) => useOf(client, name, before).catch(names.length === 0 || round > 0 ? nullIfEnded : rethrow),
        (_, use) => {
          if (use !== null) uses.push(use);
        },
      );
      exitCode = Math.max(exitCode, code);
      const isOver = names.length > 0 && uses.length === 0;
      if (isOver && round === 0) return exitCode;
      if (!isOnce || round > 0 || uses.length === 0) {
        notice?.end();
        const text = line === null ? renderStats(uses, isWhole) : uses.map((use) => line(statsLine(use))).join('');
        process.stdout.write(isLive ? redrawn(text, round) : text);
      }
      if (isOver || (isOnce && (round > 0 || uses.length === 0)) || (round > 0 && code !== 0)) return exitCode;
      before = new Map(uses.map(({ box, stats }) => [box.id, stats]));
      if (names.length > 0) targets = uses.map(({ box }) => box.id);
      await sleep(isOnce ? onceMs : everyMs, signal);
    }
    return interrupt.exitCode();
  } finally {
    notice?.end();
  }
}

async function useOf(
  client: BoxRunClient,
  name: string,
  before: ReadonlyMap<string, BoxStats>,
): Promise<BoxUse | null> {
  const box = await client.getBox(name);
  return { box, stats: await client.boxStats(box.id), before: before.get(box.id) ?? null };
}

/** A box may end between two questions. */
function nullIfEnded(error: unknown): null {
  const { code } = toBoxRunError(error);
  if (code === 'BOX_NOT_FOUND' || code === 'BOX_NOT_RUNNING') return null;
  throw error;
}

function rethrow(error: unknown): never {
  throw error;
}

/** Puts `text` in the place of the earlier table. The first table gets an empty screen. */
function redrawn(text: string, round: number): string {
  return `${round === 0 ? '\x1b[2J' : ''}\x1b[H${text.replaceAll('\n', '\x1b[K\n')}\x1b[J`;
}
