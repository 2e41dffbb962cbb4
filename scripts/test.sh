#!/usr/bin/env bash
# `npm test`: sets up what the tests need, then runs them in order. `--all` runs the long ones too.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --test
scripts/setup-compat.sh
exec node scripts/test-run.mjs "$@"
