// How the command line shows things: colours, and details of errors. The options of the command line win over the
// environment (NO_COLOR, BOXRUN_VERBOSE). main.ts sets this once, before a command runs (module state).
import type { GeneralOptions } from '../general-options.ts';

let options: GeneralOptions = {};

export function useAppearance(general: GeneralOptions): void {
  options = general;
}

/** Whether errors are shown with all details. */
export function isVerbose(): boolean {
  return options.isVerbose === true || isSet('BOXRUN_VERBOSE');
}

/** Source of NO_COLOR: https://no-color.org */
function hasColor(stream: NodeJS.WriteStream): boolean {
  if (options.color === 'always') return true;
  if (options.color === 'never' || isSet('NO_COLOR')) return false;
  return stream.isTTY && process.env['TERM'] !== 'dumb';
}

function isSet(name: string): boolean {
  return (process.env[name] ?? '') !== '';
}

/** Numbers of ECMA-48 (SGR). */
const colors = { red: 31, green: 32, yellow: 33, dim: 2 } as const;
export type Color = keyof typeof colors;

/** `text` in this colour, if `stream` shows colours. */
export function colored(text: string, color: Color, stream: NodeJS.WriteStream): string {
  return hasColor(stream) ? `\x1b[${colors[color]}m${text}\x1b[0m` : text;
}

/** The width of the terminal in characters; undefined if it is not known. Some terminals say 0 then. */
export function widthOf(stream: NodeJS.WriteStream): number | undefined {
  return stream.columns > 0 ? stream.columns : undefined;
}
