// The catalogue of errors is the public contract; ids have the public form and are not repeated.
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
  RESOURCE_EXCEEDED: 409,
  NAME_ALREADY_EXISTS: 409,
  BOX_ALREADY_RUNNING: 409,
  BOX_NOT_RUNNING: 400,
  EXEC_ALREADY_FINISHED: 400,
  IMAGE_PULL_FAILED: 400,
  TIMEOUT: 400,
  RUNTIME_ERROR: 400,
  CANCELED: 400,
  VALIDATION_ERROR: 422,
  NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  UNSUPPORTED_MEDIA_TYPE: 415,
  TOO_MANY_REQUESTS: 429,
  UNAVAILABLE: 503,
};

describe('the catalogue', () => {
  it.each(Object.entries(statuses))('%s is HTTP %i', (code, status) => {
    expect(new BoxRunError(code as ErrorCode, 'x').status).toBe(status);
  });

  it('has no code besides these', () => {
    expect(Object.keys(errorCatalogue).sort()).toEqual(Object.keys(statuses).sort());
  });

  it('calls retryable exactly what may pass by itself', () => {
    const retryable = Object.entries(errorCatalogue)
      .filter(([, entry]) => entry.retryable)
      .map(([code]) => code);
    expect(retryable.sort()).toEqual(['TOO_MANY_REQUESTS', 'UNAVAILABLE']);
  });

  it('knows its codes from other texts', () => {
    expect(isErrorCode('TIMEOUT')).toBe(true);
    for (const value of ['timeout', 'toString', '__proto__', 7, null]) expect(isErrorCode(value)).toBe(false);
  });
});

describe('an error', () => {
  it('of the catalogue stays itself; any other is a failure of the server', () => {
    const known = new BoxRunError('TIMEOUT', 'slow');
    expect(toBoxRunError(known)).toBe(known);
    const cause = new TypeError('oh');
    expect(toBoxRunError(cause)).toMatchObject({ code: 'RUNTIME_ERROR', status: 500, message: 'oh', cause });
    expect(toBoxRunError(undefined)).toMatchObject({ code: 'RUNTIME_ERROR', status: 500, message: 'undefined' });
  });

  it('has a text, whatever was thrown', () => {
    expect(errorText(new Error('a'))).toBe('a');
    expect(errorText('b')).toBe('b');
    expect(errorText(null)).toBe('null');
  });
});

describe('an id', () => {
  it('is its prefix and 12 URL-safe characters, each time others', () => {
    const ids = Array.from({ length: 5_000 }, () => newId('box'));
    for (const id of ids) expect(id).toMatch(/^box_[A-Za-z0-9_-]{12}$/);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('of a box is told from names and other ids', () => {
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
