// Tests which code of src/shared/errors.ts each message of BoxLite becomes, one row each.
import { describe, expect, it } from 'vitest';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { engineError, isNotRunningError } from '../../../src/worker/drivers/boxlite/engine-errors.ts';

describe('an error of the engine', () => {
  it.each([
    [
      "storage error: Failed to pull image 'x' after trying 1 registry: manifest unknown",
      'IMAGE_PULL_FAILED',
      /images import/,
    ],
    [
      "storage error: Failed to pull image 'x' after trying 2 registries: Not authorized: url",
      'IMAGE_PULL_FAILED',
      /login/,
    ],
    ["storage error: Failed to pull image 'x' after trying 1 registry: denied", 'IMAGE_PULL_FAILED', /login/],
    [
      "storage error: Failed to pull image 'x': error sending request for url",
      'IMAGE_PULL_FAILED',
      /cannot be reached/,
    ],
    ['storage error: invalid image reference: X', 'IMAGE_PULL_FAILED', /name and the tag/],
    ['images error: no such layer', 'IMAGE_PULL_FAILED', /name and the tag/],
    ['engine reported an error: The VM failed to start.', 'RUNTIME_ERROR', /doctor/],
    ['internal error: Failed to acquire runtime lock at /x', 'RUNTIME_ERROR', /another process/],
    [
      'storage error: tmp, bases, and disk-images directories must be on the same filesystem for atomic rename.',
      'RUNTIME_ERROR',
      /one file system/,
    ],
    ['resource exhausted: memory', 'RESOURCE_EXCEEDED', null],
    ['storage error: write: No space left on device (os error 28)', 'RESOURCE_EXCEEDED', /disk space/],
    ['box not found: abc', 'BOX_NOT_FOUND', null],
    ['stopped: Box x is no longer running and this handle is spent', 'BOX_NOT_RUNNING', null],
    ['invalid state: Cannot exec box x: it is stopped', 'BOX_NOT_RUNNING', null],
    ['portal error: Guest did not answer: timed out', 'TIMEOUT', null],
    ['gRPC transport error: broken', 'RUNTIME_ERROR', null],
    ['something new', 'RUNTIME_ERROR', null],
  ])('has a code and a hint for the message: %s', (text, code, hint) => {
    const error = engineError(new Error(text), 'doing it');
    expect(error.code).toBe(code);
    if (!text.includes('Failed to pull')) expect(error.message).toBe(`doing it: ${text}`);
    if (hint === null) expect(error.hint).toBeUndefined();
    else expect(error.hint).toMatch(hint);
  });

  it.each([
    ['x: manifest unknown', 'no such image'],
    ['Not authorized: url', 'access denied, or no such image'],
    ['error sending request for url', 'registry not reachable'],
    ['something new', 'the image cannot be read'],
  ])('says in the first line of a failed pull, in a few words, what "%s" means', (text, short) => {
    const whole = `storage error: Failed to pull image 'x' after trying 1 registry: ${text}`;
    expect(engineError(new Error(whole), 'pulling x').message).toBe(`pulling x: ${short}\n${whole}`);
  });

  it('stays the same if it is from the catalogue', () => {
    const error = new BoxRunError('TIMEOUT', 'slow');
    expect(engineError(error, 'doing it')).toBe(error);
  });

  it('has a short message without whole reports', () => {
    expect(engineError(new Error('engine reported an error: x\n\nLogs:\nmany'), 'doing it').message).toBe(
      'doing it: engine reported an error: x',
    );
    const list = new Error(
      "storage error: Failed to pull image 'x' after trying 1 registry:\n  - x: manifest unknown\n  - y: other",
    );
    expect(engineError(list, 'pulling').message).toBe(
      "pulling: no such image\nstorage error: Failed to pull image 'x' after trying 1 registry: x: manifest unknown",
    );
    expect(engineError(new Error('x'.repeat(1000)), 'doing it').message).toHaveLength('doing it: '.length + 501);
  });
});

it('isNotRunningError is true only for messages about a box that is not running', () => {
  expect(isNotRunningError(new Error('stopped: Box x'))).toBe(true);
  expect(isNotRunningError(new Error('invalid state: Cannot exec box x: it is stopped'))).toBe(true);
  expect(isNotRunningError(new Error('internal error: spawn_failed: x'))).toBe(false);
});
