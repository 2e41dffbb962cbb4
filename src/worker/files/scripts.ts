// The scripts that read and write files inside a box, for the shell of the driver's busybox. A script prints a reason
// on stderr and ends with `refusedExit` if the caller is wrong, or with another code if the box is.
import { newId } from '../../shared/ids.ts';
import type { Driver, ExecRequest } from '../drivers/driver-contract.ts';

/** The exit code with which a script reports an error of the caller. */
export const refusedExit = 20;

/** The command that runs a script as root of the box. It is in no list of commands. */
export function scriptRequest(
  { busyboxPath }: Pick<Driver, 'busyboxPath'>,
  script: string,
  args: readonly string[],
  { stdin }: { readonly stdin: boolean },
): ExecRequest {
  return {
    execId: newId('exec'),
    cmd: [busyboxPath, 'sh', '-c', script, 'sh', ...args],
    env: {},
    workdir: '/',
    user: '0',
    tty: null,
    stdin,
  };
}

/**
 * $1 the destination, $2 a temporary name, $3 a mode in octal or nothing, $4 seconds since 1970 or nothing.
 *
 * Reads lines: the length of a block, which follows as bytes, or `commit`. Prints `ready`, the length of each block
 * after it has been written, and `done`.
 *
 * The script writes through links, as cp does. It writes a plain file beside its place and renames it. If the file has
 * more names, or something is mounted at its place, its content is replaced instead. Where no file can be made beside
 * it (a volume that is one file, files of the kernel), and for a FIFO or a device, the bytes go straight into it. In
 * these cases, and if the content was replaced, $3 and $4 have no effect: the file keeps its mode and gets the present
 * time. Until the bytes have their place, only root of the box can read them.
 *
 * Descriptors 8 and 9 are the input and the output of the script. So /dev/stdin and /dev/stdout lead to /dev/null, and
 * not into the script's own lines.
 */
export const uploadScript = `
exec 8<&0 9>&1 </dev/null >/dev/null
refuse() { echo "$1" >&2; exit ${refusedExit}; }
give_up() { [ -z "$part" ] || rm -f -- "$part"; exit 1; }
file=$1
[ ! -d "$file" ] || refuse "it is a directory"
if [ -L "$file" ] && { [ -f "$file" ] || [ ! -e "$file" ]; }; then
  links=0
  while [ -L "$file" ]; do
    link=$(readlink -n -- "$file"; echo .)
    case "$link" in /*) file=\${link%.} ;; *) file=\${file%/*}/\${link%.} ;; esac
    links=$((links + 1))
    [ "$links" -le 40 ] || refuse "its links lead in a circle"
  done
fi
mkdir -p -- "\${file%/*}/" || exit 1
umask 077
part=
if [ -e "$file" ] && [ ! -f "$file" ]; then
  exec 4>"$file"
elif (: >"\${file%/*}/$2") 2>/dev/null; then
  part=\${file%/*}/$2
  exec 4>"$part"
elif [ -f "$file" ]; then
  exec 4>"$file"
else
  : >"\${file%/*}/$2"
  exit 1
fi
place() {
  mode=644
  if [ -f "$file" ]; then
    mode=$(stat -c %a -- "$file")
    chown "$(stat -c %u:%g -- "$file")" "$part"
  fi
  chmod "\${3:-$mode}" "$part" || return 1
  [ -z "$4" ] || touch -d "@$4" -- "$part" || return 1
  if [ ! -f "$file" ] || [ "$(stat -c %h -- "$file")" = 1 ]; then mv -f -- "$part" "$file" && return 0; fi
  [ -f "$file" ] && cat -- "$part" >"$file" && rm -f -- "$part"
}
echo ready >&9
while read -r n <&8; do
  if [ "$n" = commit ]; then
    exec 4>&-
    [ ! -d "$file" ] || { rm -f -- "$part"; refuse "it is a directory"; }
    [ -z "$part" ] || place "$@" || give_up
    echo done >&9
    exit 0
  fi
  dd bs="$n" count=1 iflag=fullblock status=none <&8 >&4 || give_up
  echo "$n" >&9
done
give_up
`;

const openFile = `
refuse() { echo "$1" >&2; exit ${refusedExit}; }
[ -e "$1" ] || { echo "no such file" >&2; exit 1; }
[ ! -d "$1" ] || refuse "it is a directory"
[ -f "$1" ] || refuse "it is no regular file"
exec 4<"$1" || exit 1
stat -L -c "%s %b %a %Y" -- "$1" || exit 1
`;

/** Prints the next block of stdin as a line of base64 for each line of descriptor 8. $2 the bytes of a block. */
const printBlocks = `
while read -r n <&8; do
  dd bs="$2" count=1 iflag=fullblock status=none | base64 -w 0 || exit 1
  echo
done
`;

/**
 * $1 the file, $2 the bytes of a block. Prints a line with the file's length, blocks, mode and time. Then it prints the
 * next block as a line of base64 for each line of input, so the engine may have output that is only text.
 */
export const downloadScript = `${openFile}
exec 8<&0 <&4
${printBlocks}
`;

/** $1 the directory, $2 the bytes of a block. Prints a tar archive in blocks, as the script above. */
export const packScript = `
set -o pipefail
cd -- "$1" || exit 1
exec 8<&0
tar -cf - . | {
${printBlocks}
}
`;

/** $1 the directory. Reads a tar archive as the script for uploads reads a file, and unpacks it. */
export const unpackScript = `
exec 8<&0 9>&1 </dev/null >/dev/null
set -o pipefail
mkdir -p -- "$1" || exit 1
echo ready >&9
{
  while read -r n <&8; do
    [ "$n" != commit ] || exit 0
    dd bs="$n" count=1 iflag=fullblock status=none <&8 || exit 1
    echo "$n" >&9
  done
  exit 1
} | tar -xof - -C "$1" || exit 1
echo done >&9
`;
