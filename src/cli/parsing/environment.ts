// Variables for a box: -e KEY=VALUE, -e KEY (its value comes from the environment of boxrun), and --env-file.
// A variable that is not set here is left out, as other programs do.
import { readFileSync, statSync } from 'node:fs';
import { errorText } from '../../shared/errors.ts';
import { UsageError } from './options.ts';

/** Bytes of a file of variables (--env-file). A longer one is a mistake, and is refused. */
const envFileBytesMax = 1024 * 1024;

/**
 * The variables of the files, then those of the texts. If a key occurs twice, the last value counts.
 * @throws UsageError for a text that is no variable, or a file that cannot be read
 */
export function parseVariables(texts: readonly string[], files: readonly string[]): Record<string, string> {
  const pairs = [
    ...files.flatMap((file) => linesOf(file).map((line) => pairOf(`--env-file ${file}`, line))),
    ...texts.map((text) => pairOf('--env', text)),
  ];
  return Object.fromEntries(pairs.filter((pair) => pair !== null));
}

/** Null for a variable that is not set here. */
function pairOf(where: string, text: string): readonly [string, string] | null {
  const at = text.indexOf('=');
  const key = at < 0 ? text : text.slice(0, at);
  if (key === '' || /\s/.test(key)) throw new UsageError(`${where}: '${text}' must be KEY=VALUE or KEY`);
  if (at >= 0) return [key, text.slice(at + 1)];
  const value = process.env[key];
  return value === undefined ? null : [key, value];
}

/** The lines of a file without comments and empty lines. Quotes are part of a value, as in docker. */
function linesOf(file: string): string[] {
  let text: string;
  try {
    if (statSync(file).size > envFileBytesMax) throw new Error(`it is longer than ${envFileBytesMax} bytes`);
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new UsageError(`--env-file ${file} cannot be read: ${errorText(error)}`);
  }
  return text
    .split(/\r?\n/)
    .map((line) => line.trimStart())
    .filter((line) => line !== '' && !line.startsWith('#'));
}
