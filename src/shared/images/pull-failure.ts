// What a failed pull means for the user, found in the text of the program or the engine that pulled. The first line of
// the message is short; the text of the program follows in the next lines.
import { BoxRunError } from '../errors.ts';

interface Reason {
  readonly pattern: RegExp;
  readonly short: string;
  /** @param host of the registry */
  readonly hint: (host: string) => string;
}

const importHint = 'an image on disk can be brought in with: boxrun images import NAME PATH';

/** The first reason that matches is used. */
const reasons: readonly Reason[] = [
  {
    pattern:
      /no such host|connection refused|connection reset|unreachable|no route to host|did not answer|sent nothing|time(d )?out|dial tcp|error sending request|dns error|failed to connect|x509|certificate/i,
    short: 'registry not reachable',
    hint: () => importHint,
  },
  {
    pattern: /denied|not authorized|unauthorized|authentication required|\b40[13]\b/i,
    short: 'access denied, or no such image',
    hint: (host) => `skopeo login ${host}`,
  },
  {
    pattern: /manifest unknown|name unknown|not found|\b404\b/i,
    short: 'no such image',
    hint: () => `check the name and the tag; ${importHint}`,
  },
];

/**
 * The error for a pull that failed.
 * @param host of the registry
 * @param details what the program or the engine wrote
 */
export function pullFailure(reference: string, host: string, details: string, cause: unknown): BoxRunError {
  const reason = reasons.find(({ pattern }) => pattern.test(details));
  const hint = reason?.hint(host) ?? importHint;
  return new BoxRunError('IMAGE_PULL_FAILED', `cannot pull ${reference}: ${shortReason(details)}\n${details}`, {
    cause,
    hint,
  });
}

/** In a few words, why a pull failed. */
export function shortReason(details: string): string {
  return reasons.find(({ pattern }) => pattern.test(details))?.short ?? 'the image cannot be read';
}

/** The message in a log line of skopeo, as in `time="..." level=fatal msg="..."`. Other text stays as it is. */
export function messageOfLogLine(line: string): string {
  const [, quoted] = /\bmsg=("(?:[^"\\]|\\.)*")/.exec(line) ?? [];
  if (quoted === undefined) return line;
  try {
    return String(JSON.parse(quoted));
  } catch {
    return line;
  }
}
