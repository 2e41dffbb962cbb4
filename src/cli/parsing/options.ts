// What users type, as values: numbers, volumes, variables, durations. Anything else is a usage error (exit code 2).
// Called by the commands before they ask a server for anything.
import { isUtf8 } from 'node:buffer';
import { readlinkSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Ulimit, Volume } from '../../shared/api.ts';
import { userProblem } from '../../shared/boxes/box-user.ts';
import { graceSMax, ulimitNames } from '../../shared/boxes/request-bounds.ts';

/** A mistake in the command line itself. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** By its name: the parser is a bundle with a class of its own. */
export function isUsageError(error: unknown): error is UsageError {
  return error instanceof Error && error.name === 'UsageError';
}

/** A whole number of at least `least`. */
export function parseWhole(option: string, text: string, least: number): number {
  const value = Number(text);
  if (/^\d{1,15}$/.test(text) && value >= least) return value;
  throw new UsageError(`--${option} must be a whole number from ${least}, not '${text}'`);
}

/** Seconds, with a fraction if need be, as milliseconds. */
export function parseSeconds(option: string, text: string): number {
  const ms = Math.round(Number(text) * 1000);
  if (text.trim() !== '' && Number.isFinite(ms) && ms > 0) return ms;
  throw new UsageError(`--${option} must be a number of seconds above 0, not '${text}'`);
}

/** Seconds that processes have to end by themselves; 0 for none. */
export function parseGrace(option: string, text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (value >= 0 && value <= graceSMax) return value;
  throw new UsageError(`--${option} must be a number of seconds from 0 to ${graceSMax}, not '${text}'`);
}

/** `NAME|ID[:GROUP]`; whether the name is there, only the box knows. */
export function parseUser(text: string): string {
  const problem = userProblem(text);
  if (problem !== null) throw new UsageError(`--user '${text}' ${problem}`);
  return text;
}

/** What Node puts where bytes are no UTF-8. */
export const replaced = '\ufffd';

export function notUtf8(what: string, bytes: Buffer): UsageError {
  const shown = bytes
    .toString('latin1')
    .replace(/[^ -~]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
  return new UsageError(`${what} is not UTF-8: '${shown}'; boxrun passes on text in UTF-8 only: use another name`);
}

/** `path` as an absolute one. @throws UsageError where that leads through a working directory whose name is no text */
export function resolveHere(path: string): string {
  const absolute = resolve(path);
  if (!absolute.includes(replaced) || path.startsWith('/')) return absolute;
  const directory = readlinkSync('/proc/self/cwd', 'buffer');
  if (!isUtf8(directory)) throw notUtf8('the working directory', directory);
  return absolute;
}

/** `/host:/guest[:ro|rw]`; the host's path may be relative to the working directory. */
export function parseVolume(text: string): Volume {
  const [host, guest, mode = 'rw', ...rest] = text.split(':');
  if (!host || !guest?.startsWith('/') || (mode !== 'ro' && mode !== 'rw') || rest.length > 0) {
    throw new UsageError(`--volume must be /host:/guest, /host:/guest:ro or /host:/guest:rw, not '${text}'`);
  }
  return { host_path: resolveHere(host), guest_path: guest, readonly: mode === 'ro' };
}

/** `NAME=SOFT[:HARD]`; without HARD it is SOFT. */
export function parseUlimit(text: string): Ulimit {
  const [, word, soft = '', hard = soft] = /^([a-z]+)=(-1|\d{1,15})(?::(-1|\d{1,15}))?$/.exec(text) ?? [];
  const name = ulimitNames.find((known) => known === word);
  if (name !== undefined) return { name, soft: Number(soft), hard: Number(hard) };
  throw new UsageError(`--ulimit must be NAME=SOFT[:HARD], NAME one of ${ulimitNames.join(', ')}, not '${text}'`);
}

/** `KEY=VALUE`, each; of one key the last counts. */
export function parseAssignments(option: string, texts: readonly string[]): Record<string, string> {
  const pairs = texts.map((text) => {
    const at = text.indexOf('=');
    if (at < 1) throw new UsageError(`--${option} must be KEY=VALUE, not '${text}'`);
    return [text.slice(0, at), text.slice(at + 1)] as const;
  });
  return Object.fromEntries(pairs);
}

const numberText = /^(\d+(\.\d*)?|\.\d+)$/;

/**
 * Of `exec`: `-t` is a terminal, but before a number it is the older `--timeout`, alone or behind other letters (`-dt
 * 5`, `-t5`). Together with `i` it is never a timeout.
 */
export function timeoutOrTty(words: readonly string[]): string[] {
  const result: string[] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? '';
    const next = words[at + 1] ?? '';
    const [, others, seconds] = /^-([a-hj-z]*)t=?([\d.]*)$/.exec(word) ?? [];
    const value = seconds === '' ? next : seconds;
    if (others === undefined || value === undefined || !numberText.test(value)) {
      result.push(word);
      continue;
    }
    if (others !== '') result.push(`-${others}`);
    result.push('--timeout', value);
    if (seconds === '') at++;
  }
  return result;
}

/** Stands for `-`, which yargs would take for an empty word. */
export const loneDash = '\0-';

/** The arguments before the first `--`, and the command after it; null where there is no `--`. */
export function splitCommand(args: readonly string[]): { own: string[]; command: string[] | null } {
  const at = args.indexOf('--');
  return at < 0 ? { own: [...args], command: null } : { own: args.slice(0, at), command: args.slice(at + 1) };
}
