// The meaning of the engine's errors. The engine gives all of them the same code, so the text decides. An error whose
// text matches no rule becomes a RUNTIME_ERROR with the engine's text. Pure.
import { BoxRunError, errorText, type ErrorCode } from '../../../shared/errors.ts';
import { shortReason } from '../../../shared/images/pull-failure.ts';

interface Rule {
  readonly pattern: RegExp;
  readonly code: ErrorCode;
  readonly hint?: string;
}

const importHint = 'check the name and the tag; an image on disk can be brought in with `boxrun images import`';
export const bootHint =
  'the host must let KVM boot virtual machines: `boxrun doctor` explains; `--driver container` works without';

/** The first rule that matches is used. */
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
 * Returns the error of the catalogue for an error of the engine.
 * @param doing the action that failed, for example 'starting the box'
 * @param reason the cause that was found elsewhere; it is added to the message
 */
export function engineError(error: unknown, doing: string, reason: string | null = null): BoxRunError {
  if (error instanceof BoxRunError) return error;
  const text = errorText(error);
  const rule = rules.find((candidate) => candidate.pattern.test(text));
  const details = rule?.hint === undefined ? { cause: error } : { cause: error, hint: rule.hint };
  const short = /Failed to pull image/i.test(text) ? `${shortReason(text)}\n` : '';
  return new BoxRunError(
    rule?.code ?? 'RUNTIME_ERROR',
    `${doing}: ${short}${headline(text)}${reason === null ? '' : ` (${reason})`}`,
    details,
  );
}

/** True when the engine says that the box of this handle does not run. A new handle may still work. */
export function isNotRunningError(error: unknown): boolean {
  return /^(stopped|invalid state):|handle is spent/i.test(errorText(error));
}

/**
 * Returns the first line of a message. The engine appends whole reports to some messages, and those belong in the log.
 * If the first line introduces a list of causes, the first cause is added.
 */
function headline(text: string): string {
  const [first = '', second = ''] = text.split('\n').map((each) => each.trim());
  const line = first.endsWith(':') ? `${first} ${second.replace(/^- /, '')}` : first;
  return line.length > 500 ? `${line.slice(0, 500)}…` : line;
}
