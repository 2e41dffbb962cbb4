// The contract of the supervisor (server) with the gateways (clients): every request that changes something, plus
// streams, dashboard links, figures and health. `box` is an id or a name. Times are in milliseconds.
import { Type } from 'typebox';
import {
  AgentUse,
  Box,
  BoxProcess,
  BoxStats,
  CreateBoxBody,
  Exec,
  ExecBody,
  ListeningPort,
  UpdateBoxBody,
} from '../api.ts';
import { Done, type Contract } from '../ipc/contract.ts';
import { limits } from '../limits.ts';
import { StreamGrant, StreamOperation, type PortWait } from './worker.ts';
import { MetricsSnapshot } from '../observe/metrics-snapshot.ts';
import { StageTimes } from '../observe/stage-times.ts';
import { KeyClaim } from './writer.ts';

const box = Type.String();
/** Milliseconds between TERM and KILL for the processes of the box. */
const graceMs = Type.Optional(Type.Integer({ minimum: 0 }));
/** A create can wait for an image from a slow registry, and then for the start of the box. */
const createTimeoutMs = limits.imagePrepareTimeoutMs + limits.boxStartTimeoutMs;
const stopTimeoutMs = limits.boxStopTimeoutMs + limits.workerExitMs + limits.requestTimeoutMs;
const removeTimeoutMs = stopTimeoutMs + limits.boxRemoveTimeoutMs;

interface Grace {
  readonly graceMs?: number;
}

/** A code is valid only for the purpose for which it was made. */
const purpose = Type.Optional(Type.String());
const timings = Type.Optional(StageTimes);
const TimedBox = Type.Object({ ...Box.properties, timings });
const TimedExec = Type.Object({ ...Exec.properties, timings });
/** If a request arrives again under the same key, its result is the row that the first one made. */
const claim = Type.Optional(KeyClaim);

export const supervisorContract = {
  name: 'supervisor',
  version: 1,
  clientHello: Type.Object({ role: Type.Literal('gateway') }),
  serverHello: Type.Object({ pid: Type.Integer() }),
  requests: {
    /**
     * `ephemeral`: the box of a run. The gateway removes it after the run. The supervisor removes it if the client
     * leaves during the create, or if the gateway is gone.
     */
    createBox: {
      params: Type.Object({ body: CreateBoxBody, ephemeral: Type.Boolean(), claim }),
      result: TimedBox,
      timeoutMs: createTimeoutMs,
    },
    startBox: { params: Type.Object({ box }), result: TimedBox, timeoutMs: createTimeoutMs },
    stopBox: {
      params: Type.Object({ box, graceMs }),
      result: Box,
      // If the request names no grace, the box may have one of its own, so the longest one must fit.
      timeoutMs: (asked: Grace) => stopTimeoutMs + (asked.graceMs ?? limits.stopGraceMsMax),
    },
    /** Changes the name and the labels. */
    updateBox: { params: Type.Object({ box, body: UpdateBoxBody }), result: Box },
    /** A stop, if the box runs, and a start. */
    restartBox: {
      params: Type.Object({ box, graceMs }),
      result: TimedBox,
      timeoutMs: (asked: Grace) => stopTimeoutMs + (asked.graceMs ?? limits.stopGraceMsMax) + createTimeoutMs,
    },
    removeBox: {
      params: Type.Object({ box, force: Type.Boolean(), graceMs }),
      result: Done,
      timeoutMs: (asked: Grace) => removeTimeoutMs + (asked.graceMs ?? limits.removeGraceMs),
    },
    startExec: {
      params: Type.Object({ box, body: ExecBody, claim }),
      result: TimedExec,
      timeoutMs: limits.execStartTimeoutMs + limits.requestTimeoutMs,
    },
    cancelExec: {
      params: Type.Object({ box, execId: Type.String() }),
      result: Exec,
      timeoutMs: limits.killTimeoutMs + limits.boxStopTimeoutMs + limits.requestTimeoutMs,
    },
    signalExec: { params: Type.Object({ box, execId: Type.String(), signal: Type.Integer() }), result: Exec },
    /**
     * Gives the socket and the one-time token with which the gateway opens a stream for a terminal or a file. The bytes
     * of the stream do not pass through the supervisor.
     */
    openStream: { params: Type.Object({ box, operation: StreamOperation }), result: StreamGrant },
    /** Makes a code for a one-time link. Without a purpose, it is for the dashboard. */
    issueUiCode: { params: Type.Object({ purpose }), result: Type.Object({ code: Type.String() }) },
    /** Checks such a code and uses it up. */
    redeemUiCode: {
      params: Type.Object({ code: Type.String(), purpose }),
      result: Type.Object({ valid: Type.Boolean() }),
    },
    /** Pulls and unpacks an image, so that the next box does not wait for it. Gives its reference or its name. */
    pullImage: {
      params: Type.Object({ image: Type.String() }),
      result: Type.Object({ image: Type.String() }),
      timeoutMs: limits.imagePrepareTimeoutMs + limits.workerReadyMs + limits.boxRemoveTimeoutMs,
    },
    /** Removes boxes that have been stopped or failed for more than `olderThanS` seconds. */
    collectGarbage: {
      params: Type.Object({ olderThanS: Type.Integer({ minimum: 0 }) }),
      result: Type.Object({ removed: Type.Integer() }),
      // The supervisor removes one box after the other, and each can take its full time.
      timeoutMs: 10 * removeTimeoutMs,
    },
    /** One of several gateways gives its metrics to the supervisor, so that every gateway can show them. */
    reportFigures: { params: Type.Object({ figures: MetricsSnapshot }), result: Done },
    /** The metrics of the supervisor, of the processes that have answered it, and the last ones of other gateways. */
    metrics: {
      params: Type.Object({}),
      result: Type.Array(MetricsSnapshot),
      // Twice the time that the supervisor gives the processes that it asks.
      timeoutMs: 2 * limits.healthTimeoutMs,
    },
    /** What boxes reserve, and what the running engines use. An engine that does not answer is not in the list. */
    usage: {
      params: Type.Object({}),
      result: Type.Object({
        cpusHeld: Type.Number(),
        memoryHeldMb: Type.Number(),
        running: Type.Integer(),
        boxes: Type.Integer(),
        engines: Type.Array(
          Type.Object({
            boxId: Type.String(),
            cpuSeconds: Type.Number(),
            memoryBytes: Type.Number(),
            agent: Type.Optional(AgentUse),
          }),
        ),
      }),
      timeoutMs: 2 * limits.healthTimeoutMs,
    },
    /** What one running box uses. */
    boxStats: { params: Type.Object({ box }), result: BoxStats, timeoutMs: 2 * limits.healthTimeoutMs },
    boxProcesses: {
      params: Type.Object({ box }),
      result: Type.Array(BoxProcess),
      timeoutMs: 3 * limits.fileAnswerMs,
    },
    /** The ports at which processes of the box listen, as soon as `port` is one of them. */
    boxPorts: {
      params: Type.Object({ box, port: Type.Optional(Type.Integer()), waitMs: Type.Optional(Type.Integer()) }),
      result: Type.Array(ListeningPort),
      timeoutMs: (asked: PortWait) => 3 * limits.fileAnswerMs + (asked.waitMs ?? 0),
    },
    signalProcess: {
      params: Type.Object({ box, pid: Type.Integer(), signal: Type.Integer() }),
      result: Done,
      timeoutMs: 3 * limits.fileAnswerMs,
    },
    /** Counts the workers, and the workers that give no sign of life. */
    health: {
      params: Type.Object({}),
      result: Type.Object({
        workers: Type.Integer(),
        silentWorkers: Type.Integer(),
        /** False while the disk has too little room. Absent from a supervisor of the version before. */
        diskHasRoom: Type.Optional(Type.Boolean()),
      }),
      timeoutMs: limits.healthTimeoutMs,
    },
  },
  notices: {},
} as const satisfies Contract;
export type SupervisorContract = typeof supervisorContract;
