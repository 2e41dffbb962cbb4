// The signals that clients may name. Linux gives them the same numbers on every machine that BoxRun runs on.
// Used by routes/execs.ts.
import { constants } from 'node:os';
import { BoxRunError } from '../../shared/errors.ts';

/** @throws VALIDATION_ERROR for a name that no signal has */
export function signalNumber(signal: string | number): number {
  if (typeof signal === 'number') return signal;
  const name = signal.toUpperCase().replace(/^(SIG)?/, 'SIG');
  const known: Readonly<Record<string, number>> = constants.signals;
  const number = Object.hasOwn(known, name) ? known[name] : undefined;
  if (number !== undefined) return number;
  throw new BoxRunError('VALIDATION_ERROR', `there is no signal '${signal}'`, {
    hint: 'use a name such as TERM, or a number',
  });
}
