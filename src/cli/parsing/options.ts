// Turns the text of options into values: numbers, volumes, variables, durations.
// A text that is not valid is a usage error (exit code 2), before any request is sent.
import { isUtf8 } from 'node:buffer';
import { readlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { resolve } from 'node:path';
import type { Ulimit, Volume } from '../../shared/api.ts';
import type { CommandSpec } from './command.ts';
import { userProblem } from '../../shared/boxes/box-user.ts';
import { cpuLimitMin, graceSMax, ulimitNames } from '../../shared/request-bounds.ts';

/** A mistake in the command line itself. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Compares names, not classes: the parser is in another bundle, which has its own copy of the class. */
export function isUsageError(error: unknown): error is UsageError {
  return error instanceof Error && error.name === 'UsageError';
}

/** A whole number of at least `minimum`. @throws UsageError */
export function parseWhole(option: string, text: string, minimum: number): number {
  const value = Number(text);
  if (/^\d{1,15}$/.test(text) && value >= minimum) return value;
  throw new UsageError(`--${option} must be a whole number of at least ${minimum}, not '${text}'`);
}

const unitsOfMib: Readonly<Record<string, number>> = { '': 1, m: 1, g: 1024, t: 1024 * 1024 };

/**
 * A size in MiB or GiB: `512`, `512m`, `1g`. Also `512mb`, `1GiB`.
 * @param unit of the result, and of a number without a unit
 * @throws UsageError
 */
export function parseSize(option: string, text: string, unit: 'MiB' | 'GiB'): number {
  const [, digits = '', letter = ''] = /^(\d{1,15})(?:([mgt])(?:i?b)?)?$/i.exec(text) ?? [];
  const unitMib = unit === 'GiB' ? 1024 : 1;
  const factor = letter === '' ? unitMib : (unitsOfMib[letter.toLowerCase()] ?? 0);
  const value = (Number(digits) * factor) / unitMib;
  if (digits !== '' && Number.isSafeInteger(value) && value >= 1) return value;
  throw new UsageError(
    `--${option} must be a whole number of ${unit} of at least 1, such as 2, 512m or 1g, not '${text}'`,
  );
}

/** A number of CPUs, which may have a fraction. @throws UsageError */
export function parseCpus(text: string): number {
  const value = numberText.test(text) ? Number(text) : Number.NaN;
  if (value >= cpuLimitMin) return value;
  throw new UsageError(`--cpus must be a number of at least ${cpuLimitMin}, such as 0.5, not '${text}'`);
}

/** Turns seconds, which may have a fraction, into milliseconds. @throws UsageError */
export function parseSeconds(option: string, text: string): number {
  const ms = Math.round(Number(text) * 1000);
  if (text.trim() !== '' && Number.isFinite(ms) && ms > 0) return ms;
  throw new UsageError(`--${option} must be a number of seconds above 0, not '${text}'`);
}

/**
 * A moment: a time before now (`90s`, `10m`, `2h`, `1d`) or a time of ISO 8601. Gives milliseconds since 1970.
 * @throws UsageError
 */
export function parseSince(option: string, text: string, nowMs: number): number {
  const [, count = '', unit = ''] = /^(\d+)([smhd])$/.exec(text) ?? [];
  const unitMs = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }[unit];
  const time = unitMs === undefined ? Date.parse(text) : nowMs - Number(count) * unitMs;
  if (Number.isFinite(time)) return time;
  throw new UsageError(`--${option} must be a time such as 10m, 2h, 1d or 2026-01-31T12:00, not '${text}'`);
}

/** Seconds that processes have to end by themselves, from 0 to graceSMax. @throws UsageError */
export function parseGrace(option: string, text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (value >= 0 && value <= graceSMax) return value;
  throw new UsageError(`--${option} must be a number of seconds from 0 to ${graceSMax}, not '${text}'`);
}

/** A signal by name (`TERM`, `sigterm`) or number; gives the name without SIG. @throws UsageError */
export function parseSignal(text: string): string {
  const wanted = text.toUpperCase().replace(/^(SIG)?/, 'SIG');
  const [name] =
    Object.entries(constants.signals).find(([known, number]) => known === wanted || text === String(number)) ?? [];
  if (name === undefined) throw new UsageError(`--signal must be a signal such as TERM or 15, not '${text}'`);
  return name.slice('SIG'.length);
}

/** `NAME|ID[:GROUP]`. Only the box knows whether the user exists. @throws UsageError */
export function parseUser(text: string): string {
  const problem = userProblem(text);
  if (problem !== null) throw new UsageError(`--user '${text}' ${problem}`);
  return text;
}

/** Node puts this character in place of bytes that are not UTF-8. */
export const replacementCharacter = '\ufffd';

/** The error for a name that is not UTF-8. It shows the bytes. */
export function notUtf8(what: string, bytes: Buffer): UsageError {
  const shown = bytes
    .toString('latin1')
    .replace(/[^ -~]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
  return new UsageError(`${what} is not UTF-8: '${shown}'; boxrun can pass on only UTF-8 text, so use another name`);
}

/** Makes `path` absolute. @throws UsageError if it is relative and the name of the working directory is not UTF-8 */
export function resolveHere(path: string): string {
  const absolute = resolve(path);
  if (!absolute.includes(replacementCharacter) || path.startsWith('/')) return absolute;
  const directory = readlinkSync('/proc/self/cwd', 'buffer');
  if (!isUtf8(directory)) throw notUtf8('the working directory', directory);
  return absolute;
}

/** `/host:/guest[:ro|rw]`. The path of the host may be relative to the working directory. @throws UsageError */
export function parseVolume(text: string): Volume {
  const [host, guest, mode = 'rw', ...rest] = text.split(':');
  if (!host || !guest?.startsWith('/') || (mode !== 'ro' && mode !== 'rw') || rest.length > 0) {
    throw new UsageError(`--volume must be /host:/guest, /host:/guest:ro or /host:/guest:rw, not '${text}'`);
  }
  return { host_path: resolveHere(host), guest_path: guest, readonly: mode === 'ro' };
}

/** `NAME=SOFT[:HARD]`. HARD is the same as SOFT when absent. @throws UsageError */
export function parseUlimit(text: string): Ulimit {
  const [, word, soft = '', hard = soft] = /^([a-z]+)=(-1|\d{1,15})(?::(-1|\d{1,15}))?$/.exec(text) ?? [];
  const name = ulimitNames.find((known) => known === word);
  if (name !== undefined) return { name, soft: Number(soft), hard: Number(hard) };
  const names = ulimitNames.join(', ');
  throw new UsageError(`--ulimit must be NAME=SOFT[:HARD], not '${text}'; NAME is one of ${names}`);
}

/** Reads `KEY=VALUE` texts. If a key occurs twice, the last value counts. @throws UsageError */
export function parseAssignments(option: string, texts: readonly string[]): Record<string, string> {
  const pairs = texts.map((text) => {
    const at = text.indexOf('=');
    if (at < 1) throw new UsageError(`--${option} must be KEY=VALUE, not '${text}'`);
    return [text.slice(0, at), text.slice(at + 1)] as const;
  });
  return Object.fromEntries(pairs);
}

/**
 * Reads changes of labels: `KEY=VALUE` sets one, `KEY-` removes it, which is null here. If a key occurs twice, the last
 * change counts.
 * @throws UsageError
 */
export function parseLabelChanges(texts: readonly string[]): Record<string, string | null> {
  const changes = texts.map((text) => {
    const at = text.indexOf('=');
    if (at > 0) return [text.slice(0, at), text.slice(at + 1)] as const;
    if (at < 0 && text.length > 1 && text.endsWith('-')) return [text.slice(0, -1), null] as const;
    throw new UsageError(`a label must be KEY=VALUE, or KEY- to remove it, not '${text}'`);
  });
  return Object.fromEntries(changes);
}

const numberText = /^(\d+(\.\d*)?|\.\d+)$/;

/**
 * Makes a rule that rewrites words before they are parsed: if a number follows the flag `-LETTER`, the flag means the
 * option `long`, as in `-t 5`, `-t5` and `-dt 5`.
 * @param letter of the flag
 * @param except if one of these letters is in the same word, it stays the flag, as in `-it`
 */
export function optionBeforeNumber(letter: string, long: string, except: string): NonNullable<CommandSpec['reword']> {
  const pattern = new RegExp(`^-([a-z]*)${letter}=?([\\d.]*)$`);
  return (word, next = '') => {
    const [, others, written] = pattern.exec(word) ?? [];
    if (others === undefined || written === undefined) return null;
    const value = written === '' ? next : written;
    if ([...others].some((other) => except.includes(other)) || !numberText.test(value)) return null;
    return { words: [...(others === '' ? [] : [`-${others}`]), long, value], takesNext: written === '' };
  };
}

/** `-t` means `--tty`. But before a number it means `--timeout`, as in older versions. */
export const timeoutOrTty = optionBeforeNumber('t', '--timeout', 'i');

/** Replaces the word `-` while yargs parses, because yargs turns `-` into an empty word. */
export const loneDash = '\0-';
