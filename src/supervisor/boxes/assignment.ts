// What a worker is told of its box, from the box's row, under the row's present lease.
// Used by box-worker.ts, after that lease is committed.
import type { Assignment } from '../../shared/contracts/worker.ts';
import { BoxRunError } from '../../shared/errors.ts';
import type { BoxRow } from '../../shared/store/rows.ts';

/** @throws RUNTIME_ERROR for a row of a server that kept no image */
export function assignmentOf(row: BoxRow, instanceId: string): Assignment {
  if (row.image_source === null) throw new BoxRunError('RUNTIME_ERROR', `box ${row.id} has no image`);
  return {
    boxId: row.id,
    generation: row.generation,
    instanceId,
    driver: row.driver,
    image: row.image_source,
    cpu: row.cpu,
    memoryMb: row.memory_mb,
    diskSizeGb: row.disk_size_gb,
    network: row.network,
    workdir: row.workdir,
    env: row.env ?? {},
    volumes: row.volumes ?? [],
    ulimits: row.ulimits ?? [],
    idBlock: row.id_block,
    engineId: row.boxlite_id,
  };
}
