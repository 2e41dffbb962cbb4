// Tests the state tables with every state and every cause: what is legal, what the next state is, and what clients see.
import { describe, expect, it } from 'vitest';
import { boxStatuses } from '../../../src/shared/api.ts';
import {
  boxCauses,
  boxStates,
  boxTable,
  holdsQuota,
  publicStatus,
  type BoxState,
} from '../../../src/shared/lifecycle/box.ts';
import {
  execCauses,
  execStates,
  execTable,
  exitEventData,
  finishedStatus,
  isFinished,
} from '../../../src/shared/lifecycle/exec.ts';
import { step, type Table } from '../../../src/shared/lifecycle/machine.ts';

/** A second copy of every legal step: a change of a table must be made in two places, on purpose. */
const boxSteps = `
  creating brought-up ready; creating remove-asked removing
  starting brought-up ready; starting start-failed failed; starting engine-died stopped; starting end-failed stuck
  starting remove-asked removing
  ready stop-asked stopping; ready engine-died stopped; ready end-failed stuck; ready worker-died recovering
  ready remove-asked removing
  recovering brought-up ready; recovering engine-died stopped; recovering recovery-failed failed
  recovering end-failed stuck; recovering stop-asked stopping; recovering remove-asked removing
  stopping stop-done stopped; stopping kill-failed failed; stopping engine-died stopped; stopping end-failed stuck
  stopping remove-asked removing
  stopped start-asked starting; stopped remove-asked removing
  failed start-asked starting; failed stop-asked stopping; failed remove-asked removing
  stuck found-ended failed; stuck start-asked starting; stuck stop-asked stopping; stuck remove-asked removing
  removing remove-done removed; removing remove-failed failed; removing end-failed stuck`;
const execSteps = `
  starting started running; starting start-failed failed; starting kill-asked killing; starting engine-lost lost
  running kill-asked killing; running exited exited; running engine-lost lost
  killing start-failed failed; killing exited exited; killing engine-lost lost`;

function parseSteps(text: string): Map<string, string> {
  const steps = text
    .split(/[;\n]/)
    .map((line) => line.trim())
    .filter((line) => line !== '');
  return new Map(
    steps.map((line) => {
      const [state, cause, next] = line.split(' ');
      return [`${state} ${cause}`, next as string];
    }),
  );
}

function reachable<State extends string>(table: Table<State, string>, from: State): Set<State> {
  const seen = new Set<State>([from]);
  for (const state of seen) for (const next of Object.values(table[state])) seen.add(next as State);
  return seen;
}

interface Machine {
  readonly name: string;
  readonly table: Table<string, string>;
  readonly states: readonly string[];
  readonly causes: readonly string[];
  readonly legal: ReadonlyMap<string, string>;
}

describe.each<Machine>([
  { name: 'box', table: boxTable, states: boxStates, causes: boxCauses, legal: parseSteps(boxSteps) },
  { name: 'exec', table: execTable, states: execStates, causes: execCauses, legal: parseSteps(execSteps) },
])('the $name table', ({ table, states, causes, legal }) => {
  for (const state of states) {
    for (const cause of causes) {
      const next = legal.get(`${state} ${cause}`) ?? null;
      it(`${cause} in ${state} ${next === null ? 'is illegal' : `leads to ${next}`}`, () => {
        expect(step(table, state, cause)).toBe(next);
      });
    }
  }

  it('has a row for each state, and only known causes and states', () => {
    expect(Object.keys(table).sort()).toEqual([...states].sort());
    for (const row of Object.values(table)) {
      for (const [cause, next] of Object.entries(row)) {
        expect(causes).toContain(cause);
        expect(states).toContain(next);
      }
    }
  });

  it('uses each cause and reaches each state', () => {
    const used = new Set(Object.values(table).flatMap((row) => Object.keys(row)));
    expect([...used].sort()).toEqual([...causes].sort());
    expect(reachable(table, states[0] as string).size).toBe(states.length);
  });
});

describe('the state of a box', () => {
  it('can become removed from everywhere', () => {
    for (const state of boxStates) expect(reachable(boxTable, state), state).toContain('removed');
  });

  it('does not change after removed', () => {
    expect(boxTable.removed).toEqual({});
  });

  it('is shown to clients as one of the public statuses', () => {
    const shown: Record<BoxState, string> = {
      creating: 'creating',
      starting: 'creating',
      ready: 'running',
      recovering: 'running',
      stopping: 'running',
      stopped: 'stopped',
      failed: 'error',
      stuck: 'error',
      removing: 'stopped',
      removed: 'stopped',
    };
    for (const state of boxStates) {
      expect(publicStatus(state)).toBe(shown[state]);
      expect(boxStatuses).toContain(publicStatus(state));
    }
  });

  it('holds quota if clients see it as creating or running', () => {
    for (const state of boxStates) {
      if (['creating', 'running'].includes(publicStatus(state))) expect(holdsQuota(state), state).toBe(true);
    }
    for (const state of ['stopped', 'failed', 'removed'] as const) expect(holdsQuota(state), state).toBe(false);
  });

  it('holds quota in an error for as long as the engine may run', () => {
    expect(boxStates.filter((state) => publicStatus(state) === 'error')).toEqual(['failed', 'stuck']);
    expect(holdsQuota('stuck')).toBe(true);
    for (const state of boxStates) {
      const next = step(boxTable, state, 'end-failed');
      if (next !== null) expect(holdsQuota(next), state).toBe(true);
    }
  });
});

describe('the state of a command', () => {
  it('does not change after the command has finished, and can become finished from everywhere else', () => {
    for (const state of execStates) {
      expect(Object.keys(execTable[state]).length === 0, state).toBe(isFinished(state));
      expect([...reachable(execTable, state)].some(isFinished), state).toBe(true);
    }
  });

  it('becomes lost when the engine is lost', () => {
    for (const state of execStates.filter((each) => !isFinished(each)))
      expect(step(execTable, state, 'engine-lost')).toBe('lost');
  });

  it('counts as succeeded only with exit code 0 and no error', () => {
    expect(finishedStatus({ exitCode: 0, errorMessage: null, canceled: false })).toBe('succeeded');
    expect(finishedStatus({ exitCode: 0, errorMessage: 'timed out', canceled: false })).toBe('failed');
    expect(finishedStatus({ exitCode: 1, errorMessage: null, canceled: false })).toBe('failed');
    expect(finishedStatus({ exitCode: null, errorMessage: null, canceled: false })).toBe('failed');
    expect(finishedStatus({ exitCode: 0, errorMessage: null, canceled: true })).toBe('canceled');
    expect(finishedStatus({ exitCode: 137, errorMessage: 'canceled', canceled: true })).toBe('canceled');
  });

  it('gives an exit event with the exit code, and with an error only if there is one', () => {
    expect(exitEventData({ exitCode: 0, errorMessage: null, canceled: false })).toBe('{"exit_code":0}');
    expect(JSON.parse(exitEventData({ exitCode: null, errorMessage: 'gone "x"', canceled: false }))).toEqual({
      exit_code: null,
      error: 'gone "x"',
    });
  });
});
