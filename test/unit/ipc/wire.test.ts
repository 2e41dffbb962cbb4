// Tests the forms of messages on the wire, and errors that cross it.
import { describe, expect, it } from 'vitest';
import { BoxRunError, errorCatalogue, type ErrorCode } from '../../../src/shared/errors.ts';
import { decodeError, encodeError, parseWireMessage } from '../../../src/shared/ipc/wire.ts';

describe('a value from the wire', () => {
  it('is parsed if it has one of the forms of a message', () => {
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

  it('is not parsed if it has any other form', () => {
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

describe('an error on the wire', () => {
  it('keeps its code, message, hint and status, for every code', () => {
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

  it('keeps a special status', () => {
    const error = new BoxRunError('VALIDATION_ERROR', 'too large', { status: 413 });
    expect(decodeError(encodeError(error))).toMatchObject({ code: 'VALIDATION_ERROR', status: 413, hint: undefined });
  });

  it('becomes a failure of the server if it is unexpected', () => {
    expect(decodeError(encodeError(new TypeError('x is not a function')))).toMatchObject({
      code: 'RUNTIME_ERROR',
      status: 500,
    });
    expect(decodeError(encodeError('a text'))).toMatchObject({ code: 'RUNTIME_ERROR', message: 'a text' });
  });

  it('with an unknown code from a newer peer becomes a failure with the same message', () => {
    const error = decodeError({ code: 'TOMORROW', message: 'what', status: 418, hint: null });
    expect(error).toMatchObject({ code: 'RUNTIME_ERROR', message: 'what', status: 418 });
  });
});
