// What a worker is asked for, by the supervisor that holds its box's lease. The worker listens; supervisors come and go.
import { Type, type Static } from 'typebox';
import { Exec, Volume } from '../api.ts';
import { ImageSource } from '../images/source.ts';
import { Done, type Contract } from '../ipc/contract.ts';

const Env = Type.Record(Type.String(), Type.String());
const nullableText = Type.Union([Type.String(), Type.Null()]);

export const Assignment = Type.Object({
  boxId: Type.String(),
  generation: Type.Integer(),
  instanceId: Type.String(),
  driver: Type.Union([Type.Literal('boxlite'), Type.Literal('container')]),
  image: ImageSource,
  cpu: Type.Integer(),
  memoryMb: Type.Integer(),
  diskSizeGb: Type.Integer(),
  network: Type.Boolean(),
  workdir: Type.String(),
  env: Env,
  volumes: Type.Array(Volume),
});
export type Assignment = Static<typeof Assignment>;

export const ExecOrder = Type.Object({
  cmd: Type.Array(Type.String()),
  env: Type.Union([Env, Type.Null()]),
  workdir: nullableText,
  timeoutMs: Type.Union([Type.Integer(), Type.Null()]),
});
export type ExecOrder = Static<typeof ExecOrder>;

export const workerContract = {
  name: 'worker',
  version: 1,
  clientHello: Type.Object({ role: Type.Literal('supervisor') }),
  serverHello: Type.Object({
    workerId: Type.String(),
    pid: Type.Integer(),
    /** Null for a spare. */
    boxId: nullableText,
    generation: Type.Integer(),
    /** True while the engine runs under this worker. */
    running: Type.Boolean(),
  }),
  requests: {
    /** Makes a spare the worker of one box, for good. */
    assign: { params: Assignment, result: Done },
    prepareImage: { params: Type.Object({}), result: Done },
    create: { params: Type.Object({}), result: Type.Object({ engineId: Type.String() }) },
    start: { params: Type.Object({}), result: Done },
    /** Takes over from a dead predecessor; commands not in `finishedExecs` are killed. */
    reattach: {
      params: Type.Object({ finishedExecs: Type.Array(Type.String()) }),
      result: Type.Object({ running: Type.Boolean() }),
    },
    /** Starts a command; answers when its row is committed and it has started, and holds a little for a short one to finish. */
    exec: { params: ExecOrder, result: Exec },
    cancel: { params: Type.Object({ execId: Type.String() }), result: Exec },
    /** Ends every command, then the engine; the disk stays. */
    stop: { params: Type.Object({}), result: Done },
    remove: { params: Type.Object({}), result: Done },
    /** Sends what is not acknowledged and exits; a running engine stays. */
    leave: { params: Type.Object({}), result: Done },
  },
  notices: {
    /** The engine ended by itself; its commands have been ended as failed. */
    engineExited: Type.Object({ reason: Type.String() }),
  },
} as const satisfies Contract;
export type WorkerContract = typeof workerContract;

/** Beside a worker's socket: who it is, for a supervisor that did not start it. A pid alone may have been reused. */
export const WorkerStateFile = Type.Object({
  workerId: Type.String(),
  pid: Type.Integer(),
  startTicks: Type.Integer(),
  boxId: nullableText,
  generation: Type.Integer(),
});
export type WorkerStateFile = Static<typeof WorkerStateFile>;
