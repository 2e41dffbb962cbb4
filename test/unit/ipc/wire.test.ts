// The forms of messages, and errors across the wire.
import { describe, expect, it } from 'vitest';
import { BoxRunError, errorCatalogue, type ErrorCode } from '../../../src/shared/errors.ts';
import { decodeError, encodeError, parseWireMessage } from '../../../src/shared/ipc/wire.ts';

describe('wire messages', () => {
  it('of every form are recognised', () => {
    const messages = [
      ['hello', 'worker', 1, {}],
      ['request', 1, 'exec', 100, null, null],
      ['cancel', 1],
      ['result', 1, null],
      ['error', 1, {}],
      ['progress', 1, 'pull', 'text'],
      ['notice', 'events', {}],
    ];
    for (const message of messages) expect(parseWireMessage(message)).toBe(message);
  });

  it('of any other form are not', () => {
    const wrong: unknown[] = [
      null,
      undefined,
      1,
      'hello',
      {},
      [],
      [1],
      ['goodbye'],
      ['hello'],
      ['hello', 'x', '1', {}],
      ['request', 1, 'm', 5],
      ['request', '1', 'm', 5, {}, null],
      ['request', 1, 'm', 5, {}],
      ['cancel'],
      ['cancel', 1, 2],
      ['constructor', 1],
      ['__proto__', 1],
      ['toString', 1],
      ['error', 1, 'text'],
      ['notice', 1, {}],
    ];
    for (const value of wrong) expect(parseWireMessage(value), JSON.stringify(value)).toBeNull();
  });
});

describe('errors', () => {
  it('of every code cross with message, hint and status', () => {
    for (const code of Object.keys(errorCatalogue) as ErrorCode[]) {
      const error = decodeError(encodeError(new BoxRunError(code, `about ${code}`, { hint: 'do this' })));
      expect(error).toBeInstanceOf(BoxRunError);
      expect(error).toMatchObject({
        code,
        message: `about ${code}`,
        hint: 'do this',
        status: errorCatalogue[code].status,
      });
    }
  });

  it('keep a status of their own', () => {
    const error = new BoxRunError('VALIDATION_ERROR', 'too large', { status: 413 });
    expect(decodeError(encodeError(error))).toMatchObject({ code: 'VALIDATION_ERROR', status: 413, hint: undefined });
  });

  it('that are unexpected cross as a failure of the server', () => {
    expect(decodeError(encodeError(new TypeError('x is not a function')))).toMatchObject({
      code: 'RUNTIME_ERROR',
      status: 500,
    });
    expect(decodeError(encodeError('a text'))).toMatchObject({ code: 'RUNTIME_ERROR', message: 'a text' });
  });

  it('of an unknown code, from a newer peer, are a failure with the same message', () => {
    const error = decodeError({ code: 'TOMORROW', message: 'what', status: 418, hint: null });
    expect(error).toMatchObject({ code: 'RUNTIME_ERROR', message: 'what', status: 418 });
  });
});
