// The ids with which a command runs, for a `USER[:GROUP]` as in an image's configuration: numbers or names. Names,
// groups and HOME are read from the box's own files for each command, also for root, because the box may have changed
// them meanwhile.
import { boxIdMax } from '../../shared/boxes/box-user.ts';
import { BoxRunError } from '../../shared/errors.ts';

export interface UserIds {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly home: string;
}

/** The user for programs that the driver itself runs in a box. */
export const rootUser: UserIds = { uid: 0, gid: 0, groups: [0], home: '/root' };

/** Reads a file of the box. Returns an empty text if there is none. */
type ReadInBox = (path: string) => string;

/**
 * @param user as in an image's configuration; an empty text means root
 * @throws RUNTIME_ERROR when the box's files do not have the name, or an id is above `boxIdMax`
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
    `the ${kind} '${name}' has the id ${text}, but the highest id in a box is ${boxIdMax}`,
    {
      hint: 'give it a smaller id in /etc/passwd or /etc/group of the box',
    },
  );
}
