// Formats numbers, times and commands for the user, and reads a typed command. It has no side effects.
// Times are in the language of the browser.

export function formatMemory(megabytes: number): string {
  if (megabytes < 1024) return `${megabytes} MB`;
  const gigabytes = megabytes / 1024;
  return `${Number.isInteger(gigabytes) ? gigabytes : gigabytes.toFixed(1)} GB`;
}

/** Two digits, such as 0.25, 1.5 or 12. */
export function formatCpus(cpus: number): string {
  return cpus >= 10 ? cpus.toFixed(0) : String(Number(cpus.toPrecision(2)));
}

/** A length of time in one unit: 12 s, 3 min, 5 h, 2 d. */
export function formatSpan(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = ms / 1_000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 100) return `${Math.floor(seconds)} s`;
  if (seconds < 6_000) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** The time since `time`. It never shows fractions of a second. */
export function formatAge(time: string, now: number): string {
  const seconds = Math.max(0, Math.floor((now - Date.parse(time)) / 1_000));
  return seconds < 10 ? `${seconds} s` : formatSpan(seconds * 1_000);
}

export function formatTime(time: string): string {
  return new Date(time).toLocaleString();
}

/** A command as a user would type it in a shell. */
export function formatCommand(cmd: readonly string[]): string {
  return cmd.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ');
}

/**
 * Splits a command line into words. Quotes and backslashes work as in a shell; nothing else of a shell does.
 * @throws Error for a quote that does not end
 */
export function parseCommand(line: string): string[] {
  const words: string[] = [];
  let word: string | null = null;
  for (let at = 0; at < line.length; at++) {
    const character = line[at] ?? '';
    if (character === "'" || character === '"') {
      const [quoted, end] = readQuoted(line, at);
      word = (word ?? '') + quoted;
      at = end;
    } else if (character === '\\' && at + 1 < line.length) {
      word = (word ?? '') + (line[++at] ?? '');
    } else if (/\s/.test(character)) {
      if (word !== null) words.push(word);
      word = null;
    } else {
      word = (word ?? '') + character;
    }
  }
  if (word !== null) words.push(word);
  return words;
}

/** The text in the quotes that begin at `start`, and where the quotes end. */
function readQuoted(line: string, start: number): [text: string, end: number] {
  const quote = line[start];
  let text = '';
  for (let at = start + 1; at < line.length; at++) {
    const character = line[at] ?? '';
    if (character === quote) return [text, at];
    const isEscape = quote === '"' && character === '\\' && /["\\$`]/.test(line[at + 1] ?? '');
    text += isEscape ? (line[++at] ?? '') : character;
  }
  throw new Error('a quote has no end');
}

/** The size of a file. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} bytes`;
  return bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(1)} KB` : `${(bytes / 1024 ** 2).toFixed(1)} MB`;
}
