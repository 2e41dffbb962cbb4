// The two sides of a copy, and the keys that leave a terminal: as users type them.
import { expect, it } from 'vitest';
import { parseCopy } from '../../../src/cli/copy-paths.ts';
import { createDetachKeys } from '../../../src/cli/detach-keys.ts';
import { UsageError } from '../../../src/cli/options.ts';

it('tells the side in the box from the one here', () => {
  expect(parseCopy('a.txt', 'web:/srv/')).toEqual({ direction: 'up', local: 'a.txt', remote: { box: 'web', path: '/srv/' } });
  expect(parseCopy('web:a:b', '-')).toEqual({ direction: 'down', local: '-', remote: { box: 'web', path: 'a:b' } });
  expect(parseCopy('./a:b', 'box_AAAAAAAAAA-_:x')).toMatchObject({ direction: 'up', local: './a:b' });
  expect(parseCopy('/tmp/a:b', 'web:x\ny').remote.path).toBe('x\ny');
});

it.each([['a', 'b'], ['web:/a', 'web:/b'], ['-', '-'], ['a', 'web:']])('refuses %s to %s', (source, target) => {
  expect(() => parseCopy(source, target)).toThrow(UsageError);
});

it('passes every key on but Ctrl-P with Ctrl-Q behind it', () => {
  const keys = createDetachKeys();
  const take = (...typed: number[]) => {
    const { bytes, isDetach } = keys.take(Uint8Array.from(typed));
    return [...bytes, ...(isDetach ? ['detach'] : [])];
  };
  expect(take(0x61, 0x11)).toEqual([0x61, 0x11]);
  expect(take(0x10, 0x62)).toEqual([0x10, 0x62]);
  expect(take(0x10)).toEqual([]);
  expect(take(0x10)).toEqual([0x10]);
  expect(take(0x63)).toEqual([0x10, 0x63]);
  expect(take(0x64, 0x10)).toEqual([0x64]);
  expect(take(0x11, 0x65)).toEqual(['detach']);
});
