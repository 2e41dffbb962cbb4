// Compares ratios with the budgets in budgets.json: the lowest ratio that each figure may have in the short form.
// A budget is 30 % below the measured ratio.
import { readFileSync } from 'node:fs';
import type { Measure } from './measure.ts';
import { places } from './places.ts';

type Budgets = Readonly<Record<string, number>>;

interface Shortfall {
  readonly name: string;
  readonly text: string;
}

export function readBudgets(): Budgets {
  return JSON.parse(readFileSync(places.budgets, 'utf8')) as Budgets;
}

export function belowBudget(measures: readonly Measure[], budgets: Budgets): Shortfall[] {
  return measures.flatMap(({ name, ratio }) => {
    const floor = budgets[name];
    if (floor === undefined || ratio === null || ratio >= floor) return [];
    return [{ name, text: `${name} has the ratio ${ratio.toFixed(2)}, less than ${floor}` }];
  });
}
