// Reads the two arguments of `boxrun cp`: one is a path in a box (BOX:PATH), the other one is a local path.
// A local path with a colon needs a slash before the colon, as in ./a:b. Otherwise it would mean a box.
import { UsageError } from '../parsing/options.ts';

interface BoxPath {
  readonly box: string;
  /** Absolute, or relative to the box's working directory. */
  readonly path: string;
}

export type Copy =
  | { readonly direction: 'up'; readonly local: string; readonly remote: BoxPath }
  | { readonly direction: 'down'; readonly local: string; readonly remote: BoxPath };

/** A local path of `-` means standard input or output. @throws UsageError unless exactly one side is in a box */
export function parseCopy(source: string, target: string): Copy {
  const [from, to] = [parseBoxPath(source), parseBoxPath(target)];
  if (from === null && to !== null) return { direction: 'up', local: source, remote: to };
  if (from !== null && to === null) return { direction: 'down', local: target, remote: from };
  const problem = from === null ? 'neither is' : 'both are';
  throw new UsageError(`exactly one of SOURCE and TARGET must be BOX:PATH, but ${problem}`);
}

function parseBoxPath(text: string): BoxPath | null {
  const [, box, path] = /^([A-Za-z0-9][A-Za-z0-9_.-]*):(.*)$/s.exec(text) ?? [];
  if (box === undefined || path === undefined) return null;
  if (path === '') throw new UsageError(`a path must follow the colon in '${text}'`);
  return { box, path };
}
