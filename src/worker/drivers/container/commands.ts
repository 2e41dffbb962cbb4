// Commands in a running box: environment and user as the image, the box and the request say, each over the one before; and the end of commands
// that a predecessor of this worker left. Called by box.ts, in parallel.
import { BoxRunError } from '../../../shared/errors.ts';
import { limits } from '../../../shared/limits.ts';
import type { ExecHandle, ExecRequest } from '../driver.ts';
import { defaultPath } from './bundle.ts';
import { startExec } from './exec.ts';
import { sweepLingering, type ExecContext } from './exec-process.ts';
import type { Holding, Running } from './holding.ts';
import type { PreparedImage } from './image.ts';
import { toolsInBox } from './paths.ts';
import { isRunnerOfThisWorker } from './runner/runner.ts';
import { resolveUser, rootUser, type UserIds } from './users.ts';

const lookupBytesMax = 1024 * 1024;

/** @throws BOX_NOT_RUNNING */
export function needRunning({ running, context }: Holding): Running {
  if (running !== null) return running;
  throw new BoxRunError('BOX_NOT_RUNNING', `the box ${context.spec.boxId} is not running`);
}

export async function execInBox(holding: Holding, request: ExecRequest): Promise<ExecHandle> {
  const { spec } = holding.context;
  const current = needRunning(holding);
  const { own, image, exec } = current;
  own.add(request.execId);
  try {
    const user = await userOf(current, request);
    const env = { PATH: defaultPath, HOME: user.home, ...(request.tty === null ? {} : { TERM: request.tty.term }), ...imageEnv(image), ...spec.env, ...request.env };
    const handle = await startExec(exec, request, { workdir: request.workdir ?? spec.workdir, env, user });
    void handle.exit.then(() => own.delete(request.execId));
    return handle;
  } catch (error) {
    own.delete(request.execId);
    throw error;
  }
}

/** What a predecessor started, by the control groups that are there. */
export function foundExecs(holding: Holding): string[] {
  const { own } = needRunning(holding);
  return holding.cgroups.execIds().filter((execId) => !own.has(execId) && !isRunnerOfThisWorker(execId));
}

export async function killStrayExecs(holding: Holding, finished: ReadonlySet<string>): Promise<void> {
  const { exec } = needRunning(holding);
  const others = foundExecs(holding);
  for (const execId of others) if (finished.has(execId)) exec.lingering.add(execId);
  sweepLingering(exec);
  const strays = others.filter((execId) => !exec.lingering.has(execId) && !finished.has(execId));
  await Promise.all(strays.map((execId) => holding.cgroups.killExec(execId, limits.killTimeoutMs)));
}

async function userOf({ image, users, exec }: Running, request: ExecRequest): Promise<UserIds> {
  const name = request.user ?? image.config.user;
  const known = name === '' ? rootUser : users.get(name);
  if (known !== undefined) return known;
  let lookups = 0;
  const user = await resolveUser(name, (path) => {
    lookups += 1;
    return readInBox(exec, `${request.execId}.user${lookups}`, path);
  });
  users.set(name, user);
  return user;
}

function imageEnv({ config }: PreparedImage): Record<string, string> {
  const entries = config.env.map((entry): [string, string] => {
    const equals = entry.indexOf('=');
    return [entry.slice(0, equals), entry.slice(equals + 1)];
  });
  return Object.fromEntries(entries.filter(([name]) => name !== ''));
}

async function readInBox(exec: ExecContext, execId: string, path: string): Promise<string> {
  const cmd = [`${toolsInBox}/busybox`, 'cat', path];
  const request = { execId, cmd, env: {}, workdir: '/', user: null, tty: null, stdin: false };
  const handle = await startExec(exec, request, { workdir: '/', env: { PATH: defaultPath }, user: rootUser });
  handle.stderr.resume();
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of handle.stdout as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > lookupBytesMax) break;
    parts.push(chunk);
  }
  await handle.killTree();
  return Buffer.concat(parts).toString('utf8');
}
