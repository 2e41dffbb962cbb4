// Which ids a command runs with: `USER[:GROUP]` as in an image's configuration, numbers or names. Names, groups and
// HOME are read from the box's own files for each command, also for root: the box may have changed them since the last
// one. Pure but for the reading.
import { boxIdMax } from '../../../../shared/boxes/box-user.ts';
import { BoxRunError } from '../../../../shared/errors.ts';

export interface UserIds {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly home: string;
}

/** For what the driver itself runs in a box. */
export const rootUser: UserIds = { uid: 0, gid: 0, groups: [0], home: '/root' };

/** Reads a file of the box; an empty text where there is none. */
type ReadInBox = (path: string) => string;

/**
 * @param user as in an image's configuration; empty: root
 * @throws RUNTIME_ERROR when a name stands in no file of the box, or an id is above `boxIdMax`
 */
export function resolveUser(user: string, readInBox: ReadInBox): UserIds {
  const [name = '', group = ''] = (user === '' ? '0' : user).split(':');
  const accounts = lines(readInBox('/etc/passwd'));
  const groupLines = lines(readInBox('/etc/group'));
  const account = accounts.find((fields) => fields[0] === name) ?? accounts.find((fields) => fields[2] === name);
  const isRoot = account === undefined && name === 'root';
  const uid = idOf('user', name, isRoot ? '0' : (account?.[2] ?? name));
  const named = groupLines.find((fields) => fields[0] === group);
  const gid = group === '' ? idOf('group', name, account?.[3] || '0') : idOf('group', group, named?.[2] ?? group);
  const others = group === '' && account !== undefined ? memberships(groupLines, account[0] as string) : [];
  const home = account?.[5] || (uid === rootUser.uid ? rootUser.home : '/');
  return { uid, gid, groups: [...new Set([gid, ...others])], home };
}

function memberships(groupLines: readonly string[][], name: string): number[] {
  return groupLines
    .filter((fields) => (fields[3] ?? '').split(',').includes(name) && isNumber(fields[2] ?? ''))
    .map((fields) => idOf('group', fields[0] ?? '', fields[2] ?? ''));
}

function lines(text: string): string[][] {
  return text.split('\n').map((line) => line.split(':'));
}

function isNumber(text: string): boolean {
  return /^\d+$/.test(text);
}

function idOf(kind: 'user' | 'group', name: string, text: string): number {
  if (!isNumber(text)) throw new BoxRunError('RUNTIME_ERROR', `there is no ${kind} '${name}' in the box`);
  const id = Number(text);
  if (id <= boxIdMax) return id;
  throw new BoxRunError(
    'RUNTIME_ERROR',
    `the ${kind} '${name}' has the id ${text}, and ids in a box end at ${boxIdMax}`,
    {
      hint: 'give it a smaller id in /etc/passwd or /etc/group of the box',
    },
  );
}
