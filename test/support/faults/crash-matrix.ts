// The crash matrix: for each fault point and each process, the test sends SIGKILL at that moment, or SIGSTOP for longer
// than any request may take. Afterwards the host must fit the answers of the server, and the server must work again by
// itself.
import { faultPoints, type FaultPoint } from '../../../src/shared/faults/fault-points.ts';
import { killQuietly } from '../../../src/shared/process/child-process.ts';
import { Arena, settledWithinMs, inTime, targets, type Hit, type Target } from './crash-arena.ts';
import { isAnswer, scenarioOf, type Outcome } from './crash-scenarios.ts';
import { eventually } from '../runs/eventually.ts';

export type Fault = 'kill' | 'freeze';

export interface Cell {
  readonly point: FaultPoint;
  readonly target: Target;
  readonly fault: Fault;
}

export interface CellResult extends Cell {
  /**
   * - `kept`: all promises were kept
   * - `violated`: a promise was broken
   * - `absent`: there is no such process at this point
   */
  readonly outcome: 'kept' | 'violated' | 'absent';
  /** The reason of a violation, or why the process is absent. */
  readonly reason: string;
  /**
   * The time in ms from the kill, from the end of the freeze, or from the next `serve`, until the server answers again
   * and, if the witness was not hit, runs commands.
   */
  readonly backMs: number | null;
}

export interface MatrixOptions {
  /** Groups of cells. Each group runs on its own server. */
  readonly groups: readonly (readonly Cell[])[];
  /** Longer than a request may take, so that the server has given up a frozen process by then. */
  readonly freezeMs: number;
  /** The number of servers at once. */
  readonly parallel: number;
  readonly onResult?: (result: CellResult) => void;
}

/** All points except those of a migration, which have their own test (test/crash/migration.test.ts). */
export const matrixPoints = (Object.keys(faultPoints) as FaultPoint[]).filter(
  (point) => !point.startsWith('writer.migration.'),
);

export function cellsOf(
  points: readonly FaultPoint[],
  faults: readonly Fault[],
  processes: readonly Target[] = targets,
): Cell[] {
  return points.flatMap((point) => faults.flatMap((fault) => processes.map((target) => ({ point, target, fault }))));
}

export function groupsByPoint(cells: readonly Cell[]): Cell[][] {
  return [...new Set(cells.map(({ point }) => point))].map((point) => cells.filter((cell) => cell.point === point));
}

export async function runMatrix({
  groups,
  freezeMs,
  parallel,
  onResult = () => undefined,
}: MatrixOptions): Promise<CellResult[]> {
  const waiting = [...groups];
  const results: CellResult[] = [];
  const work = async () => {
    for (let group = waiting.shift(); group !== undefined; group = waiting.shift()) {
      await runGroup(group, freezeMs, (result) => {
        results.push(result);
        onResult(result);
      });
    }
  };
  await Promise.all(Array.from({ length: parallel }, work));
  return results;
}

async function runGroup(cells: readonly Cell[], freezeMs: number, take: (result: CellResult) => void): Promise<void> {
  let arena: Arena | null = null;
  for (const cell of cells) {
    try {
      arena ??= await Arena.open();
      take({ ...cell, ...(await runCell(arena, cell, freezeMs)) });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      take({ ...cell, outcome: 'violated', reason, backMs: null });
      await arena?.killAll();
      arena = null;
    }
  }
  await arena?.close();
}

/** Runs one cell. It ends with a new subject, which shows that name and quota of the old one are free. */
async function runCell(
  arena: Arena,
  { point, target, fault }: Cell,
  freezeMs: number,
): Promise<Pick<CellResult, 'outcome' | 'reason' | 'backMs'>> {
  const scenario = scenarioOf(point);
  const subjectId = (await arena.subject())?.id ?? '';
  const witnessing = await arena.witness();
  const prepared = await scenario.prepare?.(arena);
  arena.arm(point);
  const acting = scenario.act(arena, prepared).then(
    (value): Outcome => ({ value }),
    (error: unknown): Outcome => ({ error }),
  );
  let hit: Hit | null;
  try {
    const heldPid = await Promise.race([arena.reached(point), acting.then(async () => arena.reached(point))]);
    hit = await arena.find(target, heldPid);
    if (hit !== null) await makeFault(fault, hit.pid);
  } finally {
    arena.disarm(point);
  }
  const isHit = (boxId: string) =>
    hit !== null &&
    (hit.boxId === boxId || (boxId !== arena.witnessId && hit.boxId !== null && hit.boxId !== arena.witnessId));
  const faultAt = performance.now();
  if (hit !== null && fault === 'freeze') {
    await new Promise((resolve) => setTimeout(resolve, freezeMs));
    killQuietly(hit.pid, 'SIGCONT');
  }
  const resumedAt = fault === 'freeze' ? performance.now() : faultAt;
  // The scenario of these points stops all boxes first, also the witness.
  const stopsAllBoxes = point.startsWith('writer.end');
  const canExec = !isHit(arena.witnessId) && !stopsAllBoxes;
  const backMs = await backAgain(
    arena,
    { canExec, isEnding: point.includes('.end.'), servesItself: point.startsWith('keeper.boot.') },
    resumedAt,
    acting,
  );
  const outcome = await inTime(acting, `an answer to what was asked at ${point}`);
  if ('error' in outcome && !isAnswer(outcome.error) && target !== 'keeper') throw outcome.error;
  await arena.expectSettled((boxId) => isHit(boxId) || stopsAllBoxes, witnessing);
  await scenario.verify?.(
    arena,
    outcome,
    isHit(subjectId) || (hit !== null && hit.boxId !== null && hit.boxId !== arena.witnessId),
    prepared,
  );
  await arena.renew();
  if (hit === null) return { outcome: 'absent', reason: `there is no ${target} at ${point}`, backMs: null };
  return { outcome: 'kept', reason: '', backMs };
}

async function makeFault(fault: Fault, pid: number): Promise<void> {
  process.kill(pid, fault === 'kill' ? 'SIGKILL' : 'SIGSTOP');
  const { readFile } = await import('node:fs/promises');
  const reachedState = fault === 'kill' ? /\) [ZX] / : /\) T /;
  await eventually(`process ${pid} has got its signal`, async () => {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
    return stat === null ? fault === 'kill' : reachedState.test(stat);
  });
}

interface Return {
  /** The witness can run commands. */
  readonly canExec: boolean;
  /** The point is in the end of a server, which answers until it is gone. */
  readonly isEnding: boolean;
  /** The scenario itself calls `serve`. */
  readonly servesItself: boolean;
}

/** Waits until the server works again. Returns the time in ms since `since`, or how long the next `serve` took. */
async function backAgain(
  arena: Arena,
  { canExec, isEnding, servesItself }: Return,
  since: number,
  acting: Promise<Outcome>,
): Promise<number> {
  let answered = false;
  void acting.then(() => {
    answered = true;
  });
  return eventually(
    'the service is back',
    async () => {
      if (isEnding && !answered) return false; // The server still answers, but it is ending.
      // The client of a command waits for its output until a server runs again, so it may not have its answer yet.
      if ((answered || !servesItself) && !(await arena.isServing())) return arena.serveAgain();
      return (await arena.answers(canExec)) && performance.now() - since;
    },
    settledWithinMs,
  );
}
