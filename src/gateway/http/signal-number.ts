// The signals that clients may name, and their numbers. The numbers of the host are right for a box, too, because Linux
// has the same numbers on every machine that BoxRun runs on.
import { constants } from 'node:os';
import { BoxRunError } from '../../shared/errors.ts';

/**
 * @param signal a number, or a name in any case, with or without `SIG`
 * @throws VALIDATION_ERROR for an unknown name
 */
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
