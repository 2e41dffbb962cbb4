#!/usr/bin/env bash
# `npm run test:all`: `npm test`, and then everything that takes too long for each change: every script `test:*` of package.json
# that `npm test` does not run as one of its steps. Goes on after a failure; the exit code says that there was one.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=()
npm test || failed+=("test")
for name in $(node -p '
  const own = ["all", "unit"];
  const steps = require("node:fs").readFileSync("scripts/test-run.mjs", "utf8");
  const isStep = (name) => steps.includes(`vitest(\x27${name}\x27)`) || steps.includes(`name: \x27${name}\x27`);
  const names = Object.keys(require("./package.json").scripts).filter((name) => name.startsWith("test:")).map((name) => name.slice(5));
  names.filter((name) => !own.includes(name) && !isStep(name)).join(" ")'); do
  echo
  echo "== test:$name"
  npm run --silent "test:$name" || failed+=("test:$name")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
echo "all passed"
