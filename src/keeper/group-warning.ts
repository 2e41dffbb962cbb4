// Says at the start of a server if its boxes would end with it: when they are in the same control group, and whoever
// started the server may end it by that group.
import type { Logger } from '../shared/observe/log.ts';
import { ownUnit, standingOf } from '../shared/host/service-group.ts';
import { killModeOf } from '../shared/host/systemd.ts';

/** @param writerPid the writer, which leaves the group of the server if that is possible */
export async function warnIfTogether(writerPid: number, log: Logger): Promise<void> {
  const standing = standingOf(writerPid);
  log.info({ standing }, 'the control group of what outlives the server, and that of the server');
  if (standing !== 'together') return;
  const { unit, owner } = ownUnit();
  // With these, systemd ends the keeper alone.
  const killMode = unit === null ? null : await killModeOf(owner, unit);
  if (killMode === 'process' || killMode === 'none') return;
  log.warn({ unit, killMode }, 'boxes are in the control group of the server, and end with it');
  const who = unit === null ? 'whatever runs the server' : `systemd (${unit})`;
  process.stderr.write(
    `boxrun serve: boxes are in the control group of the server, and end with that group, which ${who} may end\n` +
      'Hint: set KillMode=process in the unit, or run `boxrun service install`; `boxrun doctor` says why\n',
  );
}
