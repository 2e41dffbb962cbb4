#!/usr/bin/env bash
# `npm run test:all`: `npm test`, and then everything that takes too long for each change: every script `test:*` of package.json
# that `npm test` does not run as one of its steps, and all budgets of the benchmarks. Goes on after a failure; the exit code
# says that there was one.
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
