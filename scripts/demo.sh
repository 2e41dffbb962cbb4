#!/usr/bin/env bash
# `npm run demo`: sets up everything that is missing, and shows the main use: a server, a box, a command with streaming
# output, and the removal of the box. It uses micro-VMs if this host can boot them, otherwise containers. If a server
# already runs, the demo uses it and leaves it running.
set -euo pipefail
cd "$(dirname "$0")/.."

now_ms() { echo $(($(date +%s%N) / 1000000)); }
begun=$(now_ms)
lap=$begun
took() {
  local now
  now=$(now_ms)
  echo "  ($((now - lap)) ms)"
  lap=$now
}
boxrun() { bin/boxrun "$@"; }
# show COMMAND: prints a command as a user types it, and runs it.
show() {
  echo "\$ $1"
  eval "$1"
}

scripts/setup.sh

export BOXRUN_STATE_DIR=${BOXRUN_STATE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/boxrun/demo}
export BOXRUN_SOCKET=${BOXRUN_SOCKET:-$BOXRUN_STATE_DIR/boxrun.sock}
mkdir -p -m 700 "$BOXRUN_STATE_DIR"
said=$BOXRUN_STATE_DIR/demo-serve.txt
server=
box=

end() {
  code=$?
  trap - EXIT
  [ -z "$box" ] || boxrun rm --force "$box" >/dev/null 2>&1 || true
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" || true
  fi
  exit $code
}
trap end EXIT
trap 'exit 130' INT TERM

answers() { node -e '
  const socket = require("node:net").connect(process.env.BOXRUN_SOCKET);
  socket.on("connect", () => process.exit(0));
  socket.on("error", () => process.exit(1));
'; }

# serve DRIVER: starts a server and waits until it is ready. Fails if the server ends before that.
serve() {
  bin/boxrun serve --driver "$1" --socket "$BOXRUN_SOCKET" --workers 1 --on-exit stop >"$said" 2>&1 &
  server=$!
  until grep -q 'BoxRun is ready' "$said"; do
    if ! kill -0 "$server" 2>/dev/null; then
      wait "$server" || true
      server=
      return 1
    fi
    sleep 0.02
  done
}

if answers; then
  echo "A server runs already; the demo uses it."
else
  # The file records that VMs do not boot on this host, until the host boots again, because the probe takes long.
  boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo unknown)
  novm=$BOXRUN_STATE_DIR/demo-no-vm
  driver=${BOXRUN_DRIVER:-boxlite}
  if [ "$driver" = boxlite ] && [ "$(cat "$novm" 2>/dev/null)" = "$boot" ]; then driver=container; fi
  if [ "$driver" = boxlite ] && ! serve boxlite; then
    if ! grep -q -- '--driver container' "$said"; then
      cat "$said" >&2
      exit 1
    fi
    echo "$boot" >"$novm"
    driver=container
  fi
  if [ -z "$server" ]; then
    echo "This host boots no micro-VMs (\`boxrun doctor\` explains), so the demo uses the container driver."
    serve "$driver" || { cat "$said" >&2; exit 1; }
  fi
  cat "$said"
fi
took

# A server that already ran may have a box with the name demo, so another name is used there.
box=demo
if [ -n "$server" ]; then boxrun rm --force demo >/dev/null 2>&1 || true; else box=demo-$$; fi
show "boxrun create base --name $box --cpu 1 --memory 256"
took
show "boxrun exec $box -- sh -c 'echo Hello from a box; for i in 1 2 3; do echo line \$i; sleep 0.2; done'"
took
show "boxrun exec $box -- sh -c 'exit 7'" || echo "exit code $?"
took
show "boxrun ls"
took
show "boxrun rm --force $box"
box=
took
total=$(($(now_ms) - begun))
echo "Done in $((total / 1000)).$((total % 1000 / 100)) s."
