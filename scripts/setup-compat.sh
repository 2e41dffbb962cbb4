#!/usr/bin/env bash
# Sets up the Python environment of test/compat: the published Python SDK, in a venv below node_modules. If everything
# is there already, it does nothing and prints nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }

venv=node_modules/.cache/boxrun-compat/venv
wanted=test/compat/python/requirements.txt
if cmp -s "$wanted" "$venv/installed.txt"; then exit 0; fi

if ! python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
  if [ "$(id -u)" = 0 ]; then sudo=(env); elif sudo -n true 2>/dev/null; then sudo=(sudo); else sudo=(); fi
  if [ ${#sudo[@]} = 0 ] || ! command -v apt-get >/dev/null; then
    say "Python 3.10 or newer with its venv module is missing; install it, then try again: python3 python3-venv"
    exit 1
  fi
  say "installing python3-venv ..."
  export DEBIAN_FRONTEND=noninteractive
  "${sudo[@]}" apt-get update -qq >&2
  "${sudo[@]}" apt-get install -y -qq --no-install-recommends python3 python3-venv >&2
fi
say "installing the Python SDK ..."
rm -rf "$venv"
mkdir -p "$(dirname "$venv")"
python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r "$wanted" >&2
cp "$wanted" "$venv/installed.txt"
