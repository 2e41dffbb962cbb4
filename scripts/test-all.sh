#!/usr/bin/env bash
# `npm run test:all`: runs `npm test`, and then the tests that take too long for each change: every script `test:*` of
# package.json that `npm test` does not run, and all budgets of the benchmarks. It goes on after a failure, and ends
# with exit code 1 if something has failed.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=()
npm test || failed+=("test")
names=$(node --input-type=module -e '
  import { readFileSync } from "node:fs";
  import { serverProjects } from "./scripts/test-plan.mjs";
  const inTest = ["all", "unit", "vm", ...serverProjects];
  const scripts = Object.keys(JSON.parse(readFileSync("package.json", "utf8")).scripts);
  const long = scripts.filter((name) => name.startsWith("test:") && !inTest.includes(name.slice("test:".length)));
  console.log([...long, "bench:check"].join(" "));
')
for name in $names; do
  echo
  echo "== $name"
  npm run --silent "$name" || failed+=("$name")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
echo "all passed"
