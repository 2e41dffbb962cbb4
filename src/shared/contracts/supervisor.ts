// What the supervisor is asked for, by gateways: every command that changes a box or an exec. `box` is an id or a name.
// Served by supervisor/control.ts, called through a link of the gateway.
import { Type } from 'typebox';
import { Box, CreateBoxBody, Exec, ExecBody } from '../api.ts';
import { Done, type Contract } from '../ipc/contract.ts';
import { limits } from '../limits.ts';
import { StreamGrant, StreamOperation } from './worker.ts';
import { MetricsSnapshot } from '../observe/metrics-snapshot.ts';
import { StageTimes } from '../observe/stage-times.ts';
import { KeyClaim } from './writer.ts';

const box = Type.String();
/** How long the processes of the box have to end by themselves. */
const graceMs = Type.Optional(Type.Integer({ minimum: 0 }));
/** An image from a slow registry, then the start of the box. */
const createTimeoutMs = limits.imagePrepareTimeoutMs + limits.boxStartTimeoutMs;
const stopTimeoutMs = limits.boxStopTimeoutMs + limits.workerExitMs + limits.requestTimeoutMs;
const removeTimeoutMs = stopTimeoutMs + limits.boxRemoveTimeoutMs;

interface Grace {
  readonly graceMs?: number;
}

const timings = Type.Optional(StageTimes);
const TimedBox = Type.Object({ ...Box.properties, timings });
const TimedExec = Type.Object({ ...Exec.properties, timings });
/** A request that comes again under the same key gets the row that the first one made. */
const claim = Type.Optional(KeyClaim);

export const supervisorContract = {
  name: 'supervisor',
  version: 1,
  clientHello: Type.Object({ role: Type.Literal('gateway') }),
  serverHello: Type.Object({ pid: Type.Integer() }),
  requests: {
    /** With `ephemeral`, the box is removed when the calling gateway is gone. */
    createBox: {
      params: Type.Object({ body: CreateBoxBody, ephemeral: Type.Boolean(), claim }),
      result: TimedBox,
      timeoutMs: createTimeoutMs,
    },
    startBox: { params: Type.Object({ box }), result: TimedBox, timeoutMs: createTimeoutMs },
    stopBox: {
      params: Type.Object({ box, graceMs }),
      result: Box,
      // Where the request names no grace, the box may have one of its own.
      timeoutMs: (asked: Grace) => stopTimeoutMs + (asked.graceMs ?? limits.stopGraceMsMax),
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
    /** Where the bytes of a terminal or a file flow, past the supervisor. */
    openStream: { params: Type.Object({ box, operation: StreamOperation }), result: StreamGrant },
    /** A code for a one-time link to the dashboard, and whether one may come in by it, which uses it up. */
    issueUiCode: { params: Type.Object({}), result: Type.Object({ code: Type.String() }) },
    redeemUiCode: { params: Type.Object({ code: Type.String() }), result: Type.Object({ valid: Type.Boolean() }) },
    /** Removes boxes that are stopped or failed for longer than `olderThanS` seconds. */
    collectGarbage: {
      params: Type.Object({ olderThanS: Type.Integer({ minimum: 0 }) }),
      result: Type.Object({ removed: Type.Integer() }),
      // One box after the other may take its full time.
      timeoutMs: 10 * removeTimeoutMs,
    },
    /** One of several gateways says its figures, for the others to have. */
    reportFigures: { params: Type.Object({ figures: MetricsSnapshot }), result: Done },
    /** The supervisor's own figures, those of all that it could ask, and what other gateways said last. */
    metrics: {
      params: Type.Object({}),
      result: Type.Array(MetricsSnapshot),
      // Twice what the supervisor gives those that it asks.
      timeoutMs: 2 * limits.healthTimeoutMs,
    },
    /** What boxes reserve, and what the engines of those that run use; an engine that does not say is left out. */
    usage: {
      params: Type.Object({}),
      result: Type.Object({
        cpusHeld: Type.Number(),
        memoryHeldMb: Type.Number(),
        running: Type.Integer(),
        boxes: Type.Integer(),
        engines: Type.Array(
          Type.Object({ boxId: Type.String(), cpuSeconds: Type.Number(), memoryBytes: Type.Number() }),
        ),
      }),
      timeoutMs: 2 * limits.healthTimeoutMs,
    },
    /** For whoever watches the server: the workers, and those of them that give no sign of life. */
    health: {
      params: Type.Object({}),
      result: Type.Object({
        workers: Type.Integer(),
        silentWorkers: Type.Integer(),
        /** False while the disk has too little room; a supervisor of the version before does not say. */
        diskHasRoom: Type.Optional(Type.Boolean()),
      }),
      timeoutMs: limits.healthTimeoutMs,
    },
  },
  notices: {},
} as const satisfies Contract;
export type SupervisorContract = typeof supervisorContract;
