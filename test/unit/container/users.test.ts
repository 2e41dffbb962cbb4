// Users and groups as images name them, resolved with the files of a box: numbers, names, and groups of a user.
import { describe, expect, test } from 'vitest';
import { resolveUser } from '../../../src/worker/drivers/users.ts';

const files: Readonly<Record<string, string>> = {
  '/etc/passwd':
    'root:x:0:0::/root:/bin/sh\nana:x:1000:100::/home/ana:/bin/sh\nodd line\n7:x:70:71::/seven:/bin/sh\n' +
    'big:x:4294967295:0::/:/bin/sh\neve:x:1001:100::/:/bin/sh\n',
  '/etc/group':
    'root:x:0:\nusers:x:100:\nwheel:x:10:bob,ana\naudio:x:29:ana\ndocker:x:99:root\nhuge:x:4294967295:eve\n',
};
const resolve = (user: string) => resolveUser(user, (path) => files[path] ?? '');

describe('a user', () => {
  test.each([
    ['', { uid: 0, gid: 0, groups: [0, 99], home: '/root' }],
    ['0', { uid: 0, gid: 0, groups: [0, 99], home: '/root' }],
    ['0:0', { uid: 0, gid: 0, groups: [0], home: '/root' }],
    ['root', { uid: 0, gid: 0, groups: [0, 99], home: '/root' }],
    ['ana', { uid: 1000, gid: 100, groups: [100, 10, 29], home: '/home/ana' }],
    ['1000', { uid: 1000, gid: 100, groups: [100, 10, 29], home: '/home/ana' }],
    ['ana:wheel', { uid: 1000, gid: 10, groups: [10], home: '/home/ana' }],
    ['ana:5', { uid: 1000, gid: 5, groups: [5], home: '/home/ana' }],
    ['4711', { uid: 4711, gid: 0, groups: [0], home: '/' }],
    ['7', { uid: 70, gid: 71, groups: [71], home: '/seven' }],
  ])('%j is found', (user, ids) => {
    expect(resolve(user)).toEqual(ids);
  });

  test.each([
    'nobody',
    'ana:nogroup',
    '99999999999',
    '-1',
    '../x',
    '65536',
    '4294967295',
    '4294967296',
    'ana:4294967295',
    'big',
    'eve',
  ])('%j is refused', (user) => {
    expect(() => resolve(user)).toThrow(expect.objectContaining({ code: 'RUNTIME_ERROR' }));
  });

  test('root exists in a box that has no /etc/passwd', () => {
    for (const user of ['', 'root', '0'])
      expect(resolveUser(user, () => '')).toEqual({ uid: 0, gid: 0, groups: [0], home: '/root' });
  });
});
