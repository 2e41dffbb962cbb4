// The body of a request that starts a command, made from what a program gives as the command. Programs in plain
// JavaScript have no check of types. So a value of another form is an error with a hint.
import type { ExecBody } from '../shared/api.ts';
import { BoxRunError } from '../shared/errors.ts';
import type { Command } from './options.ts';

/** @throws VALIDATION_ERROR when `command` is neither a list nor an object with `cmd` */
export function execBody(command: Command): ExecBody {
  const given: unknown = command;
  if (Array.isArray(given)) return { cmd: given as string[] };
  if (typeof given === 'object' && given !== null && 'cmd' in given) return given as ExecBody;
  throw new BoxRunError('VALIDATION_ERROR', 'a command is a list of words, or an object with `cmd`', {
    hint:
      typeof given === 'string'
        ? `no shell splits a text: give ['ls', '-l'], or ['sh', '-c', ${JSON.stringify(given)}]`
        : "for example ['ls', '-l'] or { cmd: ['ls', '-l'] }",
  });
}
