// The health of the server for /readyz. The gateway asks the supervisor and the writer.
// A process that does not answer within limits.healthTimeoutMs counts as down.
import type { Static } from 'typebox';
import { Type } from 'typebox';
import type { SupervisorContract } from '../../shared/contracts/supervisor.ts';
import type { WriterContract } from '../../shared/contracts/writer.ts';
import type { Link } from '../../shared/ipc/link.ts';

export const Health = Type.Object({
  ok: Type.Boolean(),
  parts: Type.Object({
    supervisor: Type.Boolean(),
    writer: Type.Boolean(),
    /** Whether the database accepts changes: false while its disk is full or another program locks it. */
    database: Type.Boolean(),
    /**
     * Whether the disk of the state directory has room: false while the server creates no box and starts no command
     * because the disk is nearly full, or while boxes cannot write. True while the supervisor is down, because nothing
     * can tell then.
     * Absent only in answers of older servers.
     */
    disk: Type.Optional(Type.Boolean()),
  }),
  /** Absent while the supervisor is down. Silent workers do not make the server unready. */
  workers: Type.Optional(Type.Object({ total: Type.Integer(), silent: Type.Integer() })),
});
export type Health = Static<typeof Health>;

export interface HealthDeps {
  readonly supervisor: Pick<Link<SupervisorContract>, 'request' | 'peer'>;
  readonly writer: Pick<Link<WriterContract>, 'request' | 'peer'>;
}

export async function askHealth({ supervisor, writer }: HealthDeps): Promise<Health> {
  const [boxes, database] = await Promise.all([
    // A process whose heartbeat is missing counts as down without being asked.
    supervisor.peer?.isAnswering === true ? supervisor.request('health', {}).catch(() => null) : null,
    writer.peer?.isAnswering === true ? writer.request('health', {}).catch(() => null) : null,
  ]);
  const parts = {
    supervisor: boxes !== null,
    writer: database !== null,
    database: database?.writable === true,
    disk: boxes?.diskHasRoom ?? true,
  };
  return {
    ok: Object.values(parts).every((up) => up),
    parts,
    ...(boxes === null ? {} : { workers: { total: boxes.workers, silent: boxes.silentWorkers } }),
  };
}
