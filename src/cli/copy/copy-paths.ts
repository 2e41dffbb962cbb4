// The two sides of `boxrun cp` as users write them: which one is in a box, and where.
// A path here that has a colon is written with a slash before it, as in ./a:b.
import { UsageError } from '../parsing/options.ts';

interface BoxPath {
  readonly box: string;
  /** Absolute, or relative to the box's working directory. */
  readonly path: string;
}

export type Copy =
  | { readonly direction: 'up'; readonly local: string; readonly remote: BoxPath }
  | { readonly direction: 'down'; readonly local: string; readonly remote: BoxPath };

/** Where the local side is `-`, it is standard input or output. */
export function parseCopy(source: string, target: string): Copy {
  const [from, to] = [parseBoxPath(source), parseBoxPath(target)];
  if (from === null && to !== null) return { direction: 'up', local: source, remote: to };
  if (from !== null && to === null) return { direction: 'down', local: target, remote: from };
  const problem = from === null ? 'neither is' : 'both are';
  throw new UsageError(`one of the two must be BOX:PATH, but ${problem}`);
}

function parseBoxPath(text: string): BoxPath | null {
  const [, box, path] = /^([A-Za-z0-9][A-Za-z0-9_.-]*):(.*)$/s.exec(text) ?? [];
  if (box === undefined || path === undefined) return null;
  if (path === '') throw new UsageError(`a path must follow the colon in '${text}'`);
  return { box, path };
}
