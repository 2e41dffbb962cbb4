// What the engine's errors mean: it gives every one of them the same code, so the message's beginning decides.
// Called wherever the engine is; pure. A text that is not in the table is a RUNTIME_ERROR that keeps the engine's
// words.
import { BoxRunError, errorText, type ErrorCode } from '../../../shared/errors.ts';

interface Rule {
  readonly pattern: RegExp;
  readonly code: ErrorCode;
  readonly hint?: string;
}

const importHint = 'check the name and the tag; an image on disk can be brought in with `boxrun images import`';
export const bootHint =
  'the host must let KVM boot virtual machines: `boxrun doctor` explains; `--driver container` works without';

/** The first rule that matches wins. */
const rules: readonly Rule[] = [
  {
    pattern: /Failed to pull image[^]*(error sending request|dns|connect)/i,
    code: 'IMAGE_PULL_FAILED',
    hint: 'the registry cannot be reached from this host; an image on disk can be brought in with `boxrun images import`',
  },
  {
    pattern: /Failed to pull image[^]*(denied|not authorized|unauthorized)/i,
    code: 'IMAGE_PULL_FAILED',
    hint: 'the image does not exist, or its registry wants a login',
  },
  { pattern: /Failed to pull image|invalid image reference/i, code: 'IMAGE_PULL_FAILED', hint: importHint },
  { pattern: /^images error:/, code: 'IMAGE_PULL_FAILED', hint: importHint },
  { pattern: /^box not found:/, code: 'BOX_NOT_FOUND' },
  { pattern: /^resource exhausted:/, code: 'RESOURCE_EXCEEDED' },
  { pattern: /No space left on device/i, code: 'RESOURCE_EXCEEDED', hint: 'free some disk space on the host' },
  { pattern: /^(stopped|invalid state):/, code: 'BOX_NOT_RUNNING' },
  { pattern: /The VM failed to start/, code: 'RUNTIME_ERROR', hint: bootHint },
  { pattern: /runtime lock/i, code: 'RUNTIME_ERROR', hint: 'another process has this box open; end it first' },
  {
    pattern: /same filesystem/i,
    code: 'RUNTIME_ERROR',
    hint: 'keep the whole state directory on one file system',
  },
  { pattern: /timed out|deadline (has )?(elapsed|exceeded)/i, code: 'TIMEOUT' },
];

/**
 * The catalogue error for what the engine threw while `doing` something ('starting the box'); `reason` is added if
 * known.
 */
export function engineError(error: unknown, doing: string, reason: string | null = null): BoxRunError {
  if (error instanceof BoxRunError) return error;
  const text = errorText(error);
  const rule = rules.find((candidate) => candidate.pattern.test(text));
  const details = rule?.hint === undefined ? { cause: error } : { cause: error, hint: rule.hint };
  return new BoxRunError(
    rule?.code ?? 'RUNTIME_ERROR',
    `${doing}: ${headline(text)}${reason === null ? '' : ` (${reason})`}`,
    details,
  );
}

/** True when the box behind the handle is not running (any more): another handle, or nothing, is needed. */
export function saysNotRunning(error: unknown): boolean {
  return /^(stopped|invalid state):|handle is spent/i.test(errorText(error));
}

/** The engine appends whole reports to some messages; those belong in the log. A list of causes gives its first one. */
function headline(text: string): string {
  const [first = '', second = ''] = text.split('\n').map((each) => each.trim());
  const line = first.endsWith(':') ? `${first} ${second.replace(/^- /, '')}` : first;
  return line.length > 500 ? `${line.slice(0, 500)}…` : line;
}
