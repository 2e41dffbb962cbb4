// The two arguments of `boxrun cp`, as users type them.
import { expect, it } from 'vitest';
import { parseCopy } from '../../../src/cli/copy/copy-paths.ts';
import { UsageError } from '../../../src/cli/parsing/options.ts';

it('finds out which side is in a box', () => {
  expect(parseCopy('a.txt', 'web:/srv/')).toEqual({
    direction: 'up',
    local: 'a.txt',
    remote: { box: 'web', path: '/srv/' },
  });
  expect(parseCopy('web:a:b', '-')).toEqual({ direction: 'down', local: '-', remote: { box: 'web', path: 'a:b' } });
  expect(parseCopy('./a:b', 'box_AAAAAAAAAA-_:x')).toMatchObject({ direction: 'up', local: './a:b' });
  expect(parseCopy('/tmp/a:b', 'web:x\ny').remote.path).toBe('x\ny');
});

it.each([
  ['a', 'b'],
  ['web:/a', 'web:/b'],
  ['-', '-'],
  ['a', 'web:'],
])('refuses a copy from %s to %s', (source, target) => {
  expect(() => parseCopy(source, target)).toThrow(UsageError);
});
