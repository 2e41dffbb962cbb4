// Prints the table at the end of `npm run test:security` and `npm run test:vm-long`: each attack, and how it was
// refused.
// The name of a suite says who attacks, and the name of a test says how.
import type { Reporter, TestModule } from 'vitest/node';

const whatWidth = 62;
const howWidth = 90;

function cut(text: string, width: number): string {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length > width ? `${line.slice(0, width - 1)}…` : line;
}

export default class AttackReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    let refused = 0;
    let succeeded = 0;
    for (const module of modules) {
      let who = '';
      for (const attack of module.children.allTests()) {
        const { state } = attack.result();
        if (state === 'skipped' || state === 'pending') continue;
        const held = state === 'passed';
        if (held && attack.meta().refusal === undefined) continue; // A plain test, which shows what is allowed.
        if (held) refused++;
        else succeeded++;
        const suite = attack.parent.type === 'suite' ? attack.parent.name : module.relativeModuleId;
        if (suite !== who) process.stdout.write(`\n${suite} … (${module.relativeModuleId})\n`);
        who = suite;
        const how = held ? attack.meta().refusal : 'NOT REFUSED';
        process.stdout.write(`  ${cut(attack.name, whatWidth).padEnd(whatWidth)}  ${cut(how ?? '', howWidth)}\n`);
      }
    }
    process.stdout.write(`\n${refused} attacks refused, ${succeeded} not\n`);
  }
}
