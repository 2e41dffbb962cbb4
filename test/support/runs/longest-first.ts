// Sorts the test files for vitest: the longest files first, so that no long file runs alone at the end.
// Files that are not in the list come later, in the order of vitest.
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** The long files, with their seconds on two slow processors. Only the order of magnitude matters. */
const longest = [
  'crash/supervision', // 130
  'chaos/chaos', // 70
  'compat/python', // 70
  'browser/dashboard', // 45
  'contract/cli', // 40
  'compat/typescript', // 40
  'crash/upgrade', // 35
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
