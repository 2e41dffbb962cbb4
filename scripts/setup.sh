#!/usr/bin/env bash
# Sets up everything that is missing to build and run BoxRun on Debian or Ubuntu: npm packages, the Debian packages of
# the container driver, and dist/. With --test it also installs the packages of the tests. If nothing is missing, it
# prints nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }

# If the headers of Node are installed, native modules are compiled with them and do not download others.
prefix=$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")
if [ -e "$prefix/include/node/node.h" ]; then export npm_config_nodedir=$prefix; fi

node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' || {
  say "Node $(node --version) is too old: BoxRun needs 20.19 or newer"
  exit 1
}

sqlite_loads() { node -e "new (require('better-sqlite3'))(':memory:')" 2>/dev/null; }

if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  say "installing npm packages ..."
  npm ci --include=dev --loglevel=error >&2
  touch node_modules/.package-lock.json
fi
if ! sqlite_loads; then
  say "compiling better-sqlite3 ..."
  npm rebuild better-sqlite3 --ignore-scripts=false --loglevel=error >&2 || true
  sqlite_loads || {
    say "better-sqlite3 does not load; it needs a C++ toolchain: apt-get install build-essential python3"
    exit 1
  }
fi

# The programs that the container driver needs, and their packages.
missing=()
need() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null || missing+=("$2"); }
PATH="$PATH:/usr/sbin:/sbin" command -v runc >/dev/null || need crun crun
need skopeo skopeo
need umoci umoci
need zstd zstd
need catatonit catatonit
need slirp4netns slirp4netns
need nft nftables
need mkfs.ext4 e2fsprogs
need tar tar
need unshare util-linux
# The static and the dynamic busybox have the same name, so the check looks at the file.
if ! head -c 4096 "$(command -v busybox || echo /dev/null)" | grep -q ELF || ldd "$(command -v busybox)" >/dev/null 2>&1; then
  missing+=(busybox-static)
fi
if [ "${1:-}" = --test ]; then # The tests push to a registry, and compile programs that try system calls.
  need docker-registry docker-registry
  need gcc gcc
  [ -e /usr/include/string.h ] || missing+=(libc6-dev)
  need xz xz-utils
  need tmux tmux
  need htop htop # The tests of terminals use it.
  need strace strace
  need zsh zsh # The tests of completion use the real shells.
  need fish fish
  need systemd-analyze systemd # It checks the unit file of the service. No service is started.
  need chromium chromium # The tests of the dashboard use a real browser.
fi
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ]; then sudo=(env); elif sudo -n true 2>/dev/null; then sudo=(sudo); else sudo=(); fi
  if [ ${#sudo[@]} = 0 ] || ! command -v apt-get >/dev/null; then
    say "these packages are missing; install them, then try again: ${missing[*]}"
    exit 1
  fi
  say "installing ${missing[*]} ..."
  export DEBIAN_FRONTEND=noninteractive
  "${sudo[@]}" apt-get update -qq >&2
  "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi

if [ ! -e dist/cli.cjs ] || [ -n "$(find src scripts/build.mjs package-lock.json -newer dist/cli.cjs -print -quit)" ]; then
  say "building ..."
  npm run --silent build >&2
fi
