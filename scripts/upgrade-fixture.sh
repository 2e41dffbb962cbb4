#!/usr/bin/env bash
# Makes test/fixtures/upgrade again from a commit: builds and packs the commit, keeps the part of the package that a
# server needs, and lets this server make a state directory and describe its API. Needs root and the container driver.
# See test/fixtures/upgrade/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
commit=$(git rev-parse --verify "${1:?usage: scripts/upgrade-fixture.sh COMMIT}^{commit}")
target=$PWD/test/fixtures/upgrade
work=$(mktemp -d /tmp/boxrun-fixture-XXXXXX)
state=$work/state

say() { echo "upgrade fixture: $*" >&2; }
# Equal inputs give an equal archive.
pack() {
  local same=(--sort=name '--mtime=2026-01-01 00:00Z' --owner=0 --group=0 --numeric-owner)
  tar --create "${same[@]}" --directory "$1" . | xz -9e >"$2"
}
# of_json EXPRESSION: prints a JavaScript expression, in which `value` is the JSON on standard input.
of_json() { node -p "const value = JSON.parse(require('fs').readFileSync(0)); $1"; }

boxrun() { node "$work/program/dist/cli.js" "$@"; }
get() { curl --silent --show-error --fail --unix-socket "$state/boxrun.sock" "http://localhost$1"; }
start_server() {
  node "$work/program/dist/cli.js" serve --port 0 >"$work/serve.log" 2>&1 &
  server=$!
  until grep -q 'is ready' "$work/serve.log"; do
    kill -0 "$server" || { cat "$work/serve.log" >&2; exit 1; }
    sleep 0.1
  done
}
stop_server() {
  if [ -z "${server:-}" ]; then return; fi
  for box in $(boxrun ls --status running --quiet); do boxrun stop "$box" >/dev/null; done
  kill "$server" && wait "$server" || true
  server=
}

trap 'stop_server; rm -rf "$work"' EXIT

say "building $commit ..."
mkdir "$work/source" "$work/program"
git archive "$commit" | tar --extract --directory "$work/source"
if cmp -s package-lock.json "$work/source/package-lock.json"; then
  # A copy and not a symbolic link, because the bundles contain the paths of their modules.
  cp -al node_modules "$work/source/" 2>/dev/null || cp -a node_modules "$work/source/"
else
  npm ci --prefix "$work/source" --include=dev --loglevel=error >&2
fi
(cd "$work/source" && npm pack --pack-destination "$work" --loglevel=error >&2)
tar --extract --gzip --file "$work"/boxrun-*.tgz --directory "$work/program" --strip-components=1
(cd "$work/program" && rm -rf docs ./*.md dist/ui dist/types dist/sdk.js dist/sdk-browser.js)
pack "$work/program" "$target/program.tar.xz"

say "making its state directory ..."
ln -s "$work/source/node_modules" "$work/program/node_modules"
export BOXRUN_STATE_DIR=$state BOXRUN_DRIVER=container BOXRUN_WORKERS=0 BOXRUN_MAX_CPU=16
unset BOXRUN_SOCKET BOXRUN_DB BOXRUN_HOST BOXRUN_PORT
start_server
size=(--cpu 1 --memory 64 --disk 1)
boxrun create base --name web "${size[@]}" --label tier=web --label owner=anna --env COLOUR=blue >/dev/null
boxrun exec web -- sh -c 'echo one; echo grün >&2; sleep 0.2; printf "no end"' >/dev/null 2>&1
boxrun exec web -- sh -c 'echo $COLOUR; exit 3' >/dev/null || true
boxrun exec web -- sh -c 'head -c 300000 /dev/zero | tr "\0" x' >/dev/null
# The stop of the box ends this command.
boxrun exec web --detach -- sleep 1000 >/dev/null
boxrun stop web >/dev/null
# This box is in error, because a box without its disk does not start.
boxrun create base --name broken "${size[@]}" >/dev/null
boxrun exec broken -- true
boxrun stop broken >/dev/null
rm "$state/boxes/$(boxrun ls --json | of_json 'value.find(({ name }) => name === "broken").id')/disk.img"
boxrun start broken >/dev/null 2>&1 || true
boxrun create base "${size[@]}" >/dev/null
boxrun stop "$(boxrun ls --status running --quiet)" >/dev/null

say "saving its answers ..."
mkdir -p "$work/kept/answers"
get /openapi.json | of_json 'JSON.stringify(value, null, 1)' >"$target/openapi.json"
get /v1/boxes >"$work/kept/answers/boxes.json"
for box in $(boxrun ls --quiet); do
  get "/v1/boxes/$box/execs" >"$work/kept/answers/execs-$box.json"
  for exec in $(of_json 'value.map(({ id }) => id).join(" ")' <"$work/kept/answers/execs-$box.json"); do
    get "/v1/boxes/$box/exec/$exec/events?follow=false" >"$work/kept/answers/events-$exec.txt"
  done
done
stop_server
(cd "$state" && cp --parents boxrun.db* boxes/*/owner.json boxes/*/box.json "$work/kept")
rm -f "$work/kept/boxrun.db.lock"
pack "$work/kept" "$target/state.tar.xz"
echo "$commit" >"$target/commit.txt"
ls -l "$target" >&2
