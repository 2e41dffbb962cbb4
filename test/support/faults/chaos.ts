// The chaos test, with choices from a seed: actors do random operations, and a killer kills and freezes random
// processes, in rounds of some seconds. After each round the server, the host and the models of the actors must agree.
import { killQuietly } from '../../../src/shared/process/child-process.ts';
import { Actor, type Faults } from './chaos-actor.ts';
import { startCrashServer, type CrashServer } from '../servers/crash-server.ts';
import { expectIntegrity, expectConsistentHost } from '../host/host-state.ts';
import { getLocal } from '../servers/local-http.ts';
import { eventually } from '../runs/eventually.ts';
import { processesOf } from '../host/processes.ts';
import { createRandom, type Random } from '../runs/random.ts';

export interface ChaosOptions {
  readonly seed: number;
  readonly durationMs: number;
  readonly onRound?: (report: ChaosReport) => void;
}

export interface ChaosReport {
  readonly seed: number;
  readonly rounds: number;
  readonly operations: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, number>>;
  readonly violations: readonly string[];
}

const actorCount = 3;
const roundMs = 8_000;
/**
 * The pauses are long enough that the keeper and the boxes do not give up: the keeper stops restarting a child after 10
 * deaths in a minute, and a box goes to error after its worker has died too often. This test does not test that.
 */
const pauseLeastMs = 500;
const pauseMostMs = 1_800;
const freezeMostMs = 3_000;
/** A restart is finished within this time. Until then, a request may be answered with UNAVAILABLE. */
const aftermathMs = 20_000;
const boxCpus = actorCount * 2;
/** CPUs for boxes of runs whose client has gone, and for boxes that are still being removed. */
const spareCpus = 6;

const targets = ['supervisor', 'gateway', 'writer', 'worker', 'worker', 'engine', 'keeper'] as const;

export async function runChaos({ seed, durationMs, onRound = () => undefined }: ChaosOptions): Promise<ChaosReport> {
  const server = await startCrashServer({
    args: ['--workers', '1'],
    env: { BOXRUN_MAX_CPU: String(boxCpus + spareCpus), BOXRUN_RECONCILE_MS: '1000' },
  });
  const counts = { operations: {} as Record<string, number>, faults: {} as Record<string, number> };
  const violations: string[] = [];
  const count = (of: Record<string, number>, kind: string) => {
    of[kind] = (of[kind] ?? 0) + 1;
  };
  const killer = new Killer(server, createRandom(seed), (kind) => {
    count(counts.faults, kind);
  });
  const actors = Array.from(
    { length: actorCount },
    (_, index) =>
      new Actor({
        name: `actor${index}`,
        client: server.client,
        random: createRandom(seed * 31 + index + 1),
        faults: killer,
        onOperation: (kind) => {
          count(counts.operations, kind);
        },
        onViolation: (what) => violations.push(what),
      }),
  );
  const report = (rounds: number): ChaosReport => ({ seed, rounds, ...counts, violations });
  const deadline = Date.now() + durationMs;
  let rounds = 0;
  while (Date.now() < deadline && violations.length === 0) {
    await playRound(actors, killer, Math.min(roundMs, deadline - Date.now()));
    rounds++;
    try {
      await eventually('every part of the server is ready', () => isReady(server.stateDir), aftermathMs);
      await expectConsistentHost(server.stateDir, () => server.client.listBoxes());
      for (const actor of actors) await actor.expectTruth();
    } catch (error) {
      violations.push(`after round ${rounds}: ${String(error)}`);
    }
    onRound(report(rounds));
  }
  await finish(server).catch((error: unknown) => {
    violations.push(`at the end: ${String(error)}`);
  });
  if (violations.length > 0) await server.killAll();
  return report(rounds);
}

async function playRound(actors: readonly Actor[], killer: Killer, ms: number): Promise<void> {
  const over = Date.now() + ms;
  const playing = actors.map(async (actor) => {
    while (Date.now() < over) await actor.act();
  });
  await killer.makeFaults(over);
  await Promise.all(playing);
}

/** Removes all boxes, and expects that a name, the whole quota and everything on the host are free. */
async function finish(server: CrashServer): Promise<void> {
  for (const box of await server.client.listBoxes()) await server.client.removeBox(box.id, { force: true });
  await server.client.create({
    image: 'base',
    name: 'actor0-0',
    cpu: boxCpus + spareCpus,
    memory_mb: 64,
    disk_size_gb: 1,
  });
  expectIntegrity(server.stateDir);
  await server.close();
}

async function isReady(stateDir: string): Promise<boolean> {
  return getLocal(stateDir, '/readyz').then(
    ({ status }) => status === 200,
    () => false,
  );
}

class Killer implements Faults {
  readonly #server: CrashServer;
  readonly #random: Random;
  readonly #onFault: (kind: string) => void;
  readonly #hits: { readonly boxId: string | null; readonly from: number; until: number }[] = [];

  constructor(server: CrashServer, random: Random, onFault: (kind: string) => void) {
    this.#server = server;
    this.#random = random;
    this.#onFault = onFault;
  }

  /** A fault explains missing answers for aftermathMs more. */
  anySince(since: number): boolean {
    return this.#hits.some(({ until }) => until + aftermathMs >= since);
  }

  /** A hit up to 1 s before `since` counts, too: the server may notice it only after that. */
  onBoxSince(boxId: string, since: number): boolean {
    return this.#hits.some((hit) => hit.boxId === boxId && hit.until >= since - 1_000);
  }

  async makeFaults(over: number): Promise<void> {
    while (Date.now() < over) {
      await pause(pauseLeastMs + this.#random.below(pauseMostMs - pauseLeastMs));
      await this.#makeFault();
    }
  }

  async #makeFault(): Promise<void> {
    const target = this.#random.pick(targets);
    const freezes = this.#random.below(4) === 0;
    const choice = this.#random.below(1_000);
    const freezeMs = this.#random.below(freezeMostMs);
    const found = await this.#find(target, choice);
    if (found === null) return;
    const hit = { boxId: found.boxId, from: Date.now(), until: Number.POSITIVE_INFINITY };
    this.#hits.push(hit);
    this.#onFault(`${freezes ? 'freeze' : 'kill'} ${target}`);
    killQuietly(found.pid, freezes ? 'SIGSTOP' : 'SIGKILL');
    if (freezes) await pause(freezeMs);
    if (freezes) killQuietly(found.pid, 'SIGCONT');
    else if (target === 'keeper') await this.#serveAgain();
    hit.until = Date.now();
  }

  async #find(target: (typeof targets)[number], choice: number): Promise<{ pid: number; boxId: string | null } | null> {
    const found = await processesOf(this.#server.stateDir);
    if (target === 'engine') {
      const engines = await enginesOf(this.#server.stateDir);
      return engines[choice % Math.max(1, engines.length)] ?? null;
    }
    const fitting = found.filter(({ role }) => role === target).sort((one, other) => one.pid - other.pid);
    const one = fitting[choice % Math.max(1, fitting.length)];
    return one === undefined ? null : { pid: one.pid, boxId: one.box };
  }

  async #serveAgain(): Promise<void> {
    await eventually(
      'supervisor and gateway are gone',
      async () =>
        (await processesOf(this.#server.stateDir)).every(({ role }) => role === 'worker' || role === 'writer'),
      30_000,
    );
    await this.#server.serve();
  }
}

async function enginesOf(stateDir: string): Promise<{ pid: number; boxId: string }[]> {
  const { readdir, readFile } = await import('node:fs/promises');
  const found = [];
  for (const boxId of (await readdir(`${stateDir}/boxes`)).sort()) {
    const pid = Number((await readFile(`${stateDir}/boxes/${boxId}/run/init.pid`, 'utf8').catch(() => '')).trim());
    const group = pid > 0 ? await readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => '') : '';
    if (group.includes(boxId)) found.push({ pid, boxId });
  }
  return found;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Writes the counts as one line, and each violation as a line of its own. */
export function summaryOf({ seed, rounds, operations, faults, violations }: ChaosReport): string {
  const sum = (counts: Readonly<Record<string, number>>) =>
    Object.values(counts).reduce((total, value) => total + value, 0);
  const list = (counts: Readonly<Record<string, number>>) =>
    Object.entries(counts)
      .sort()
      .map(([kind, value]) => `${kind} ${value}`)
      .join(', ');
  return (
    `seed ${seed}, ${rounds} rounds: ${sum(operations)} operations (${list(operations)}), ${sum(faults)} faults (${list(faults)}), ` +
    `${violations.length} violated invariants${violations.map((what) => `\n  ${what}`).join('')}\n`
  );
}
