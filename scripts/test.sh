#!/usr/bin/env bash
# `npm test`: sets up everything that the tests need, then runs them. Arguments are names of steps or projects
# (scripts/test-plan.mjs). `npm run test:all` runs the long tests, too.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --test
scripts/setup-compat.sh
exec node scripts/test-run.mjs "$@"
