// Builds the order by which a worker gets its box, from the row of the box.
// The order carries the generation in the row, so the lease must be committed before.
import type { Assignment } from '../../shared/contracts/worker.ts';
import { BoxRunError } from '../../shared/errors.ts';
import type { BoxRow } from '../../shared/store/rows.ts';

/** @throws RUNTIME_ERROR when the row has no image: an early version of the server did not store it */
export function assignmentOf(row: BoxRow, instanceId: string): Assignment {
  if (row.image_source === null) throw new BoxRunError('RUNTIME_ERROR', `box ${row.id} has no image`);
  return {
    boxId: row.id,
    generation: row.generation,
    instanceId,
    driver: row.driver,
    image: row.image_source,
    cpu: row.cpu,
    cpuLimit: row.cpu_limit ?? null,
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
