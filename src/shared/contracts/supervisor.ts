// What the supervisor is asked for, by gateways: every command that changes a box or an exec. `box` is an id or a name.
import { Type } from 'typebox';
import { Box, CreateBoxBody, Exec, ExecBody } from '../api.ts';
import { Done, type Contract } from '../ipc/contract.ts';

const box = Type.String();

export const supervisorContract = {
  name: 'supervisor',
  version: 1,
  clientHello: Type.Object({ role: Type.Literal('gateway') }),
  serverHello: Type.Object({ pid: Type.Integer() }),
  requests: {
    /** With `ephemeral`, the box is removed when the calling gateway is gone. */
    createBox: { params: Type.Object({ body: CreateBoxBody, ephemeral: Type.Boolean() }), result: Box },
    startBox: { params: Type.Object({ box }), result: Box },
    stopBox: { params: Type.Object({ box }), result: Box },
    removeBox: { params: Type.Object({ box, force: Type.Boolean() }), result: Done },
    startExec: { params: Type.Object({ box, body: ExecBody }), result: Exec },
    cancelExec: { params: Type.Object({ box, execId: Type.String() }), result: Exec },
    /** Removes boxes that are stopped or failed for longer than `olderThanS` seconds. */
    collectGarbage: {
      params: Type.Object({ olderThanS: Type.Integer({ minimum: 0 }) }),
      result: Type.Object({ removed: Type.Integer() }),
    },
  },
  notices: {},
} as const satisfies Contract;
export type SupervisorContract = typeof supervisorContract;
