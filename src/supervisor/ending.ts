// The end of a supervisor that was asked to end: its services close, runs are removed, and boxes stop where the
// settings say so. Workers of boxes that go on are left alone.
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
  /** Closed one after the other, before any box is touched. */
  readonly closing: readonly { close(): void | Promise<void> }[];
  readonly keepCompiled: KeepCompiled;
}

export async function endSupervisor({ config, log, registry, closing, keepCompiled }: EndingDeps): Promise<never> {
  // Where the host goes down, nothing can run on: boxes end in order, before systemd kills what is left.
  const goesDown = await isGoingDown(ownUnit().owner);
  const onExit = goesDown ? 'stop' : config.onExit;
  log.info({ onExit, goesDown }, 'the supervisor ends');
  for (const part of closing) await part.close();
  const runs = registry.all().filter(({ row }) => row.ephemeral);
  await Promise.all(runs.map((box) => box.remove(true).catch(() => undefined))); // Else the next supervisor does it.
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
