// The order in which vitest starts test files: the longest first, so that none of them is left to run alone at the end.
// A file that the list does not name comes after it, in vitest's own order.
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Seconds on two slow processors. Only the order of magnitude matters. */
const longest = [
  'crash/supervision', // 130
  'chaos/chaos', // 70
  'compat/python', // 70
  'browser/dashboard', // 45
  'crash/databases', // 40
  'contract/cli', // 40
  'compat/typescript', // 40
  'contract/debug-bundle', // 35
  'crash/upgrade', // 35
  'system/files-large', // 30
];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const at = longest.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      return at === -1 ? longest.length : at;
    };
    const sorted = await super.sort(files);
    return sorted.toSorted((one, other) => rank(one) - rank(other));
  }
}
