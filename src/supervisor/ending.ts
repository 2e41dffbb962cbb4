// The orderly end of a supervisor: it closes its services, removes the boxes of runs, and stops the boxes that are
// ready if the settings say so or the host shuts down. Boxes that are not stopped go on with their workers.
import type { KeepCompiled } from '../shared/process/compiled-code.ts';
import type { Config } from '../shared/settings/config.ts';
import { errorText } from '../shared/errors.ts';
import type { Logger } from '../shared/observe/log.ts';
import { ownUnit } from '../shared/host/service-group.ts';
import { isGoingDown } from '../shared/host/systemd.ts';
import type { BoxRegistry } from './boxes/box-registry.ts';

export interface EndingDeps {
  readonly config: Pick<Config, 'onExit'>;
  readonly log: Logger;
  readonly registry: Pick<BoxRegistry, 'all'>;
  /** Services to close, one after the other, before any box is stopped or removed. */
  readonly closing: readonly { close(): void | Promise<void> }[];
  readonly keepCompiled: KeepCompiled;
}

export async function endSupervisor({ config, log, registry, closing, keepCompiled }: EndingDeps): Promise<never> {
  // When the host shuts down, no box can go on. So all boxes are stopped before systemd kills them.
  const goesDown = await isGoingDown(ownUnit().owner);
  const onExit = goesDown ? 'stop' : config.onExit;
  log.info({ onExit, goesDown }, 'the supervisor ends');
  for (const part of closing) await part.close();
  const runs = registry.all().filter(({ row }) => row.ephemeral);
  // If a removal fails, the next supervisor removes the box.
  await Promise.all(runs.map((box) => box.remove(true).catch(() => undefined)));
  if (onExit === 'stop') {
    const running = registry.all().filter(({ state }) => state === 'ready');
    await Promise.all(
      running.map((box) =>
        box.stop().catch((error: unknown) => {
          log.error({ boxId: box.id, reason: errorText(error) }, 'stopping a box at exit failed');
        }),
      ),
    );
  }
  keepCompiled();
  return process.exit(0);
}
