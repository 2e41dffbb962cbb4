// Defines `attack`: a test that really tries an attack, expects that it is refused, and records how.
// attack-reporter.ts prints these records.
import { test } from 'vitest';
import type { Answer } from '../servers/server.ts';

declare module 'vitest' {
  interface TaskMeta {
    /** How the attack of this test was refused. */
    refusal?: string;
  }
}

/**
 * Defines a test that is an attack.
 * @param run throws when the attack succeeds. Otherwise it returns in a few words how the attack was refused
 */
export function attack(what: string, run: () => Promise<string>): void {
  test(what, async ({ task }) => {
    task.meta.refusal = await run();
  });
}

/** Describes the refusal of a request in a few words. @throws when the request was not refused with `code` */
export function refusalOf(answer: Pick<Answer, 'status' | 'json' | 'text'>, code: string): string {
  if (answer.status < 400 || answer.json.code !== code)
    throw new Error(`not refused with ${code}: ${answer.status} ${answer.text.slice(0, 500)}`);
  return `${answer.status} ${code}: ${answer.json.message ?? ''}`;
}
