// Commands in a micro-VM by its agent: whom they run as, their environment, and their handles. The driver cannot read
// files of the VM from the host, so the agent reads the box's users for a command that names one.
import { text } from 'node:stream/consumers';
import type { Readable } from 'node:stream';
import { withDeadline } from '../../../../shared/waiting/clock.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import { limits } from '../../../../shared/limits.ts';
import type { AgentLine } from '../../../agent/agent-line.ts';
import type { AgentOrder } from '../../../agent/frames.ts';
import type { ExecRequest } from '../../driver-contract.ts';
import { resolveUser, type UserIds } from '../../users.ts';
import { boxEnvironment, toolsPath } from '../box-options.ts';
import type { FirstProcess } from '../guest/guest-control.ts';
import type { WrappedCommand } from '../guest/guest-command.ts';

/** Prints both files, one on each output. */
const usersScript = 'cat /etc/passwd 2>/dev/null; exec >&2 2>/dev/null; cat /etc/group; :';
const usersBytesMax = 1024 * 1024;
const rootIds = { uid: 0, gid: 0, groups: [0] };
let lookups = 0;

/**
 * Makes the agent's order from a command.
 * @param first the box's first process: it has the user and the environment of the image and of the box
 * @throws RUNTIME_ERROR when the box does not have the user
 */
export async function orderOf(
  agent: AgentLine,
  request: ExecRequest,
  { cmd, workdir, env, isOwnDirectory }: WrappedCommand,
  first: FirstProcess,
): Promise<AgentOrder> {
  const variables = new Map([...boxEnvironment(Object.fromEntries(first.env)), ...env]);
  let user: Pick<UserIds, 'uid' | 'gid' | 'groups'> = first.user;
  if (request.user !== null) {
    const userIn = await readUsers(agent);
    const found = userIn(request.user);
    user = found;
    // Without a HOME of the image or of the box, the first process has that of its own user.
    const isOwnHome = variables.get('HOME') === userIn(String(first.user.uid)).home;
    if (isOwnHome && !env.some(([name]) => name === 'HOME')) variables.set('HOME', found.home);
  }
  return {
    name: request.execId,
    group: request.execId,
    cmd,
    env: [...variables].map(([name, value]) => `${name}=${value}`),
    workdir,
    isOwnDirectory,
    user,
    tty: request.tty,
    stdin: request.stdin,
  };
}

/** Returns a function that finds a user in the files of the box. */
async function readUsers(agent: AgentLine): Promise<(user: string) => UserIds> {
  const name = `users_${process.pid}_${(lookups += 1)}`;
  const command = agent.run({
    name,
    group: name,
    cmd: [`${toolsPath}/busybox`, 'sh', '-c', usersScript],
    env: ['PATH='],
    workdir: '/',
    isOwnDirectory: false,
    user: rootIds,
    tty: null,
    stdin: false,
  });
  if (command === null) throw new BoxRunError('RUNTIME_ERROR', 'the agent of the box takes no more commands');
  const reading = Promise.all([readStart(command.stdout), readStart(command.stderr)]);
  const [accounts, groups] = await withDeadline(reading, limits.execStartTimeoutMs, 'reading the users of the box');
  const end = await command.exit;
  if ('lost' in end) throw new BoxRunError('RUNTIME_ERROR', `${end.lost} while it looked for the user of the command`);
  return (user) => resolveUser(user, (path) => (path === '/etc/passwd' ? accounts : groups));
}

async function readStart(output: Readable): Promise<string> {
  let bytes = 0;
  return text(
    output.map((piece: Buffer) => {
      bytes += piece.length;
      return bytes > usersBytesMax ? Buffer.alloc(0) : piece;
    }),
  );
}
