// Tests that are attacks: each tries something for real, asserts that it was refused, and says how; attack-reporter.ts
// prints what they said. `attack` is a test like any other.
import { test } from 'vitest';
import type { Answer } from '../servers/server.ts';

declare module 'vitest' {
  interface TaskMeta {
    /** How the attack of this test was refused. */
    refusal?: string;
  }
}

/** @param run throws when the attack succeeds; gives in a few words how it was refused */
export function attack(what: string, run: () => Promise<string>): void {
  test(what, async ({ task }) => {
    task.meta.refusal = await run();
  });
}

/** The refusal of a request, in a few words; throws when it was none, or another one than `code`. */
export function refusalOf(answer: Pick<Answer, 'status' | 'json' | 'text'>, code: string): string {
  if (answer.status < 400 || answer.json.code !== code)
    throw new Error(`not refused with ${code}: ${answer.status} ${answer.text.slice(0, 500)}`);
  return `${answer.status} ${code}: ${answer.json.message ?? ''}`;
}
