// Reads paths in boxes (BOX:PATH) and the arguments of `boxrun cp`, which has such paths on one side and local ones on
// the other.
// A local path with a colon needs a slash before the colon, as in ./a:b. Otherwise it would mean a box.
import { UsageError } from '../parsing/options.ts';

export interface BoxPath {
  readonly box: string;
  /** Absolute, or relative to the box's working directory. */
  readonly path: string;
}

export interface Copy {
  /** Up is into the box. */
  readonly direction: 'up' | 'down';
  readonly local: string;
  readonly remote: BoxPath;
}

/**
 * The copies that `boxrun cp SOURCE... TARGET` means. Several sources go into the target, which is then a directory.
 * @throws UsageError
 */
export function parseCopies(paths: readonly string[]): readonly Copy[] {
  const sources = paths.slice(0, -1);
  const target = paths.at(-1) ?? '';
  if (sources.length === 0) throw new UsageError('cp needs a source and a target, as in: boxrun cp notes.txt web:/srv');
  if (sources.length === 1) return [parseCopy(sources[0] ?? '', target)];
  if (sources.includes('-') || target === '-') throw new UsageError('- can be copied only alone');
  return sources.map((source) => parseCopy(source, target.endsWith('/') ? target : `${target}/`));
}

/** A local path of `-` means standard input or output. @throws UsageError unless exactly one side is in a box */
export function parseCopy(source: string, target: string): Copy {
  const [from, to] = [parseBoxPath(source), parseBoxPath(target)];
  if (from === null && to !== null) return { direction: 'up', local: source, remote: to };
  if (from !== null && to === null) return { direction: 'down', local: target, remote: from };
  const problem = from === null ? 'neither is' : 'both are';
  throw new UsageError(`exactly one of SOURCE and TARGET must be BOX:PATH, but ${problem}`);
}

/** Null if the text is no BOX:PATH. */
export function parseBoxPath(text: string): BoxPath | null {
  const [, box, path] = /^([A-Za-z0-9][A-Za-z0-9_.-]*):(.*)$/s.exec(text) ?? [];
  if (box === undefined || path === undefined) return null;
  if (path === '') throw new UsageError(`a path must follow the colon in '${text}'`);
  return { box, path };
}
