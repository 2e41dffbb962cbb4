// Which ids a command runs with: `USER[:GROUP]` as in an image's configuration, numbers or names. Names are read from the box's own files, by
// a program inside the box: a link planted there must never be followed on the host.
import { BoxRunError } from '../../../shared/errors.ts';

export interface UserIds {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly home: string;
}

export const rootUser: UserIds = { uid: 0, gid: 0, groups: [0], home: '/root' };

/** Reads a file inside the box; an empty text where there is none. */
type ReadInBox = (path: string) => Promise<string>;

/**
 * @throws RUNTIME_ERROR when a name stands in no file of the box
 */
export async function resolveUser(user: string, readInBox: ReadInBox): Promise<UserIds> {
  if (user === '' || user === 'root' || user === '0' || user === '0:0') return rootUser;
  const [name = '', group = ''] = user.split(':');
  const accounts = lines(await readInBox('/etc/passwd'));
  const groupLines = lines(await readInBox('/etc/group'));
  const account = accounts.find((fields) => fields[0] === name) ?? accounts.find((fields) => fields[2] === name);
  const uid = numeric(account?.[2] ?? name);
  if (uid === null) throw new BoxRunError('RUNTIME_ERROR', `there is no user '${name}' in the box`);
  const named = groupLines.find((fields) => fields[0] === group);
  const gid = group === '' ? (numeric(account?.[3] ?? '0') ?? 0) : numeric(named?.[2] ?? group);
  if (gid === null) throw new BoxRunError('RUNTIME_ERROR', `there is no group '${group}' in the box`);
  const others = group === '' && account !== undefined ? memberships(groupLines, account[0] as string) : [];
  return { uid, gid, groups: [...new Set([gid, ...others])], home: account?.[5] || '/' };
}

function memberships(groupLines: readonly string[][], name: string): number[] {
  return groupLines
    .filter((fields) => (fields[3] ?? '').split(',').includes(name))
    .map((fields) => numeric(fields[2] ?? ''))
    .filter((gid) => gid !== null);
}

function lines(text: string): string[][] {
  return text.split('\n').map((line) => line.split(':'));
}

function numeric(text: string): number | null {
  return /^\d{1,10}$/.test(text) ? Number(text) : null;
}
