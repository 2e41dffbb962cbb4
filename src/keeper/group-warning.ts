// Warns at the start of the server if its boxes would end together with it. They do if they are in the control group
// of the server and the program that started the server, such as systemd, ends it by ending that group. The writer is
// compared, because the supervisor has not started a worker yet.
import type { Logger } from '../shared/observe/log.ts';
import { ownUnit, standingOf } from '../shared/host/service-group.ts';
import { killModeOf } from '../shared/host/systemd.ts';

/** @param writerPid process id of the writer. Like the workers, it leaves the server's control group if it can. */
export async function warnIfTogether(writerPid: number, log: Logger): Promise<void> {
  const standing = standingOf(writerPid);
  log.info({ standing }, 'compared the control group of the writer with that of the server');
  if (standing !== 'together') return;
  const { unit, owner } = ownUnit();
  // With the kill modes `process` and `none`, systemd does not end the other processes of the control group.
  const killMode = unit === null ? null : await killModeOf(owner, unit);
  if (killMode === 'process' || killMode === 'none') return;
  log.warn({ unit, killMode }, 'boxes are in the control group of the server, and end with it');
  const starter = unit === null ? 'the program that started the server' : `systemd (${unit})`;
  process.stderr.write(
    `boxrun serve: boxes are in the control group of the server, and they end if ${starter} ends that group\n` +
      'Hint: set KillMode=process in the unit, or run `boxrun service install`; `boxrun doctor` says why\n',
  );
}
