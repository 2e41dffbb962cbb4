// Doubles at the two boundaries of the worker: a writer behind a link, and a driver whose commands the test controls.
import { PassThrough, type Readable } from 'node:stream';
import { expect } from 'vitest';
import type { ExecOrder } from '../../../src/shared/contracts/worker.ts';
import type { ExecChange, WriterContract } from '../../../src/shared/contracts/writer.ts';
import type { Link } from '../../../src/shared/ipc/link.ts';
import { createCommitQueue } from '../../../src/worker/output/commit-queue.ts';
import type { ExecExit, ExecHandle, ExecRequest } from '../../../src/worker/drivers/driver-contract.ts';
import { createExec, type RunningExec } from '../../../src/worker/commands/running-exec.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { controlledPromise, quietLog } from '../../support/runs/unit.ts';

export interface WriterDouble {
  readonly link: Pick<Link<WriterContract>, 'request' | 'ready'>;
  /** Every batch that arrived, acknowledged or not. */
  readonly batches: ExecChange[][];
  /** The acknowledged changes, in order. */
  readonly committed: ExecChange[];
  /** The batches in progress now, and the largest number at one time. */
  readonly inProgress: { now: number; most: number };
  /** Answers the next batches. By default they are acknowledged. */
  answer: (changes: ExecChange[]) => Promise<void>;
}

export function createWriterDouble(): WriterDouble {
  const batches: ExecChange[][] = [];
  const committed: ExecChange[] = [];
  const inProgress = { now: 0, most: 0 };
  const double: WriterDouble = {
    batches,
    committed,
    inProgress,
    answer: () => Promise.resolve(),
    link: {
      ready: () => Promise.reject(new Error('not used')),
      async request(method: string, params: unknown) {
        if (method !== 'changeExecs') throw new Error(`not expected: ${method}`);
        const { changes } = params as { changes: ExecChange[] };
        batches.push([...changes]);
        inProgress.most = Math.max(inProgress.most, ++inProgress.now);
        try {
          await double.answer(changes);
          committed.push(...changes);
          return null as never;
        } finally {
          inProgress.now--;
        }
      },
    } as WriterDouble['link'],
  };
  return double;
}

/** The changes without repeated ones, as the writer stores them. */
export function stored(changes: readonly ExecChange[]): ExecChange[] {
  const seen = new Set<string>();
  return changes.filter((change) => {
    const key =
      change.op === 'event'
        ? `event ${change.execId} ${change.event.seq}`
        : `${change.op} ${change.op === 'insert' ? change.exec.id : change.execId}`;
    return seen.size < seen.add(key).size;
  });
}

export interface CommandDouble {
  readonly request: ExecRequest;
  readonly stdout: PassThrough;
  readonly stderr: PassThrough;
  kills: number;
  /** Whether other processes of its tree live on after the leader has exited. */
  children: boolean;
  /** Makes the leader exit. */
  exit(how: ExecExit): void;
  /** Ends both streams, then makes the leader exit. */
  finish(exitCode: number): void;
  /** What killTree does. By default the command ends as after a SIGKILL. */
  onKill: () => Promise<void>;
}

export interface DriverDouble {
  exec(request: ExecRequest): Promise<ExecHandle>;
  readonly commands: CommandDouble[];
  /** Called at the start of each next command, before the driver answers. */
  onStart: (command: CommandDouble) => Promise<void>;
  streams: (() => { stdout: Readable; stderr: Readable }) | null;
}

export function createDriverDouble(): DriverDouble {
  const commands: CommandDouble[] = [];
  const double: DriverDouble = {
    commands,
    onStart: () => Promise.resolve(),
    streams: null,
    async exec(request) {
      const exit = controlledPromise<ExecExit>();
      const command: CommandDouble = {
        request,
        stdout: new PassThrough(),
        stderr: new PassThrough(),
        kills: 0,
        children: true,
        exit: exit.resolve,
        finish(exitCode) {
          command.stdout.end();
          command.stderr.end();
          exit.resolve({ exitCode });
        },
        async onKill() {
          command.finish(137);
        },
      };
      commands.push(command);
      await double.onStart(command);
      const streams = double.streams?.() ?? command;
      return {
        stdout: streams.stdout,
        stderr: streams.stderr,
        stdin: null,
        exit: exit.promise,
        resize: () => Promise.resolve(),
        signal: () => Promise.resolve(),
        hasChildren: () => Promise.resolve(command.children),
        killTree() {
          command.kills++;
          return command.onKill();
        },
      };
    },
  };
  return double;
}

export interface ExecBench {
  readonly driver: DriverDouble;
  readonly writer: WriterDouble;
  /** The reasons with which commands were reported as unkillable. */
  readonly unkillable: string[];
  run(order?: Partial<ExecOrder>): RunningExec;
  /** The command, as soon as the driver has it. */
  command(index?: number): Promise<CommandDouble>;
}

/** Commands with doubles of the driver and the writer, which the test controls. */
export function createExecBench(outputBytesMax = Infinity): ExecBench {
  const driver = createDriverDouble();
  const writer = createWriterDouble();
  const unkillable: string[] = [];
  const queue = createCommitQueue({ link: writer.link, onRefused: () => undefined });
  return {
    driver,
    writer,
    unkillable,
    run: (order = {}) =>
      createExec(
        {
          driver,
          queue,
          log: quietLog,
          boxId: 'box_a',
          generation: 3,
          outputBytesMax,
          onUnkillable: (reason) => unkillable.push(reason),
        },
        { cmd: ['x'], env: null, workdir: null, timeoutMs: null, ...order },
      ),
    async command(index = 0) {
      await eventually('the driver has the command', () => driver.commands.length > index);
      return driver.commands[index] as CommandDouble;
    },
  };
}

/** The stored changes, each in one or two words. */
export const summary = (changes: readonly ExecChange[]) =>
  stored(changes).map((change) => (change.op === 'event' ? `${change.event.type} ${change.event.seq}` : change.op));

export function output(changes: readonly ExecChange[], stream: 'stdout' | 'stderr'): Buffer {
  return Buffer.concat(
    stored(changes).flatMap((change) =>
      change.op === 'event' && change.event.stream === stream ? [Buffer.from(change.event.data)] : [],
    ),
  );
}

export function exitOf(changes: readonly ExecChange[]): unknown {
  const exits = stored(changes).filter((change) => change.op === 'event' && change.event.type === 'exit');
  expect(exits).toHaveLength(1);
  const [exit] = exits;
  return exit?.op === 'event' ? JSON.parse(Buffer.from(exit.event.data).toString()) : null;
}
