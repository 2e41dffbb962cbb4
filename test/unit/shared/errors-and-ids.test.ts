// Tests the catalogue of errors, which is the public contract, and ids, which have the public form and do not repeat.
import { describe, expect, it } from 'vitest';
import {
  BoxRunError,
  errorCatalogue,
  errorText,
  isErrorCode,
  toBoxRunError,
  type ErrorCode,
} from '../../../src/shared/errors.ts';
import { isBoxId, newId } from '../../../src/shared/ids.ts';

const statuses: Record<ErrorCode, number> = {
  BOX_NOT_FOUND: 404,
  EXEC_NOT_FOUND: 404,
  FILE_NOT_FOUND: 404,
  RESOURCE_EXCEEDED: 409,
  NAME_ALREADY_EXISTS: 409,
  BOX_ALREADY_RUNNING: 409,
  BOX_NOT_RUNNING: 400,
  EXEC_ALREADY_FINISHED: 400,
  IMAGE_PULL_FAILED: 400,
  TIMEOUT: 400,
  RUNTIME_ERROR: 400,
  CANCELED: 400,
  PORT_NOT_OPEN: 400,
  VALIDATION_ERROR: 422,
  NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  UNSUPPORTED_MEDIA_TYPE: 415,
  TOO_MANY_REQUESTS: 429,
  UNAVAILABLE: 503,
};

describe('the catalogue of errors', () => {
  it.each(Object.entries(statuses))('has %s with HTTP %i', (code, status) => {
    expect(new BoxRunError(code as ErrorCode, 'x').status).toBe(status);
  });

  it('has no other codes', () => {
    expect(Object.keys(errorCatalogue).sort()).toEqual(Object.keys(statuses).sort());
  });

  it('marks only temporary errors as retryable', () => {
    const retryable = Object.entries(errorCatalogue)
      .filter(([, entry]) => entry.retryable)
      .map(([code]) => code);
    expect(retryable.sort()).toEqual(['TOO_MANY_REQUESTS', 'UNAVAILABLE']);
  });

  it('has codes that isErrorCode tells from other values', () => {
    expect(isErrorCode('TIMEOUT')).toBe(true);
    for (const value of ['timeout', 'toString', '__proto__', 7, null]) expect(isErrorCode(value)).toBe(false);
  });
});

describe('a thrown value', () => {
  it('stays the same if it is from the catalogue, and otherwise becomes a failure of the server', () => {
    const known = new BoxRunError('TIMEOUT', 'slow');
    expect(toBoxRunError(known)).toBe(known);
    const cause = new TypeError('oh');
    expect(toBoxRunError(cause)).toMatchObject({ code: 'RUNTIME_ERROR', status: 500, message: 'oh', cause });
    expect(toBoxRunError(undefined)).toMatchObject({ code: 'RUNTIME_ERROR', status: 500, message: 'undefined' });
  });

  it('has a text, even if it is not an error', () => {
    expect(errorText(new Error('a'))).toBe('a');
    expect(errorText('b')).toBe('b');
    expect(errorText(null)).toBe('null');
  });
});

describe('an id', () => {
  it('has its prefix and 12 URL-safe characters, and is different each time', () => {
    const ids = Array.from({ length: 5_000 }, () => newId('box'));
    for (const id of ids) expect(id).toMatch(/^box_[A-Za-z0-9_-]{12}$/);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('of a box is told from names and from other ids', () => {
    expect(isBoxId(newId('box'))).toBe(true);
    for (const value of [
      newId('exec'),
      'box_short',
      'box_aaaaaaaaaaaaa',
      'my-box',
      'box_aaaaaaaaaaa!',
      ' box_aaaaaaaaaaaa',
      'box_aaaaaaaaaaaa\n',
    ]) {
      expect(isBoxId(value), value).toBe(false);
    }
  });
});
