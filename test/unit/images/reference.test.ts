// Tests which strings are image references, and what they mean in full.
import { describe, expect, test } from 'vitest';
import {
  canonicalReference,
  decodeName,
  encodeName,
  localName,
  parseReference,
  tryLocalName,
} from '../../../src/shared/images/reference.ts';

describe('the image reference', () => {
  test.each([
    ['alpine', 'docker.io/library/alpine:latest'],
    ['alpine:3.20', 'docker.io/library/alpine:3.20'],
    ['library/alpine', 'docker.io/library/alpine:latest'],
    ['docker.io/library/alpine:latest', 'docker.io/library/alpine:latest'],
    ['someone/tool', 'docker.io/someone/tool:latest'],
    ['registry.example/team/tool:1', 'registry.example/team/tool:1'],
    ['localhost/tool', 'localhost/tool:latest'],
    ['localhost:5000/tool:a_B.c-1', 'localhost:5000/tool:a_B.c-1'],
    ['127.0.0.1:5000/a/b/c', '127.0.0.1:5000/a/b/c:latest'],
    [`tool@sha256:${'a'.repeat(64)}`, `docker.io/library/tool@sha256:${'a'.repeat(64)}`],
  ])('%s means %s', (text, full) => {
    expect(canonicalReference(text)).toBe(full);
  });

  test.each([
    'UPPER/case',
    'two words',
    'a//b',
    '/a',
    'a/',
    'a:',
    ':1',
    'a@sha256:12',
    'a:b:c',
    '-a',
    '../a',
    'a/../b',
    'a\nb',
    '',
    'host:port/a',
    'a?b',
    '$(id)',
    '--help',
  ])('%j is refused with IMAGE_PULL_FAILED', (text) => {
    expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: 'IMAGE_PULL_FAILED' }));
  });
});

describe('the names of imported images', () => {
  test('have the tag latest if they have no tag', () => {
    expect(localName('Tools')).toBe('Tools:latest');
    expect(localName('team/tools:2')).toBe('team/tools:2');
    expect(localName('team/tools')).toBe('team/tools:latest');
  });

  test.each(['..', '../x', '/x', 'x/', 'a b', '', '.hidden', 'a/../b', 'x:', 'ä'])(
    'are refused if they are %j',
    (text) => {
      expect(tryLocalName(text)).toBeNull();
      expect(() => localName(text)).toThrow(expect.objectContaining({ code: 'VALIDATION_ERROR' }));
    },
  );

  test('are refused if they are too long for file names', () => {
    expect(tryLocalName('a/'.repeat(60) + 'a')).toBeNull();
    expect(tryLocalName('a'.repeat(190))).not.toBeNull();
  });

  test('may be long registry references, and still become file names', () => {
    const reference = canonicalReference(`${'a/'.repeat(110)}b:${'t'.repeat(128)}`);
    expect(encodeName(reference).length).toBeLessThan(200);
    expect(encodeName(reference)).not.toBe(encodeName(`${reference}x`));
    expect(() => parseReference(`${'a/'.repeat(130)}b`)).toThrow(
      expect.objectContaining({ code: 'IMAGE_PULL_FAILED' }),
    );
  });

  test('become one file name each, which can be turned back', () => {
    for (const name of ['tools:latest', 'a/b/c:1', 'registry.example:5000/x@sha256:00']) {
      expect(encodeName(name)).not.toMatch(/[/:]/);
      expect(decodeName(encodeName(name))).toBe(name);
    }
  });
});
