// The wrapper that starts every command in a box, run by the host's busybox, so that it works in an image without a
// shell. It puts itself into the command's own cgroup, then becomes the command. Pure; exec.ts hands the result to the
// engine. Values travel as arguments, never inside the script: there is nothing to quote.
import { toolsPath } from '../box-options.ts';

/** Names that a shell keeps for itself or does not take over; they are set by `env` behind its back. */
const shellNames =
  /^(IFS|OPTIND|OPTARG|PS[124]|PPID|RANDOM|LINENO|SHLVL|PWD|OLDPWD|CDPATH|ENV|MAIL|MAILPATH|FUNCNAME|HISTFILE|EPOCHSECONDS|EPOCHREALTIME|_)$/;
const shellIdentifier = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * Arguments: $0 the exec's id; $1 directory; $2 rows and $3 columns of the terminal, or empty; $4 `own` when nobody
 * asked for the directory; $5 the number of NAME=VALUE arguments that follow; these; the command. Its own variables
 * bear a prefix that no user's variable has (box-options.ts keeps those out). busybox would run its own applets for
 * bare names, so PATH is searched here.
 *
 * The kill (guest-control.ts) first sets cgroup.max.depth of the command's cgroup, making it if it is not there yet: a
 * wrapper that comes too late sees that, and runs nothing.
 */
const wrapperScript = `
BOXRUN_G=${toolsPath}/cg/$0
mkdir "$BOXRUN_G" 2>/dev/null
{ echo 0 >"$BOXRUN_G/cgroup.procs" && read -r BOXRUN_D <"$BOXRUN_G/cgroup.max.depth"; } 2>/dev/null || {
  echo "boxrun: cannot set the command apart from others" >&2
  exit 126
}
[ "$BOXRUN_D" = max ] || exit 137
[ -z "$2" ] || stty rows "$2" cols "$3" 2>/dev/null
cd -P -- "$1" 2>/dev/null || { [ "$4" = own ] && [ "$(${toolsPath}/busybox id -u)" != 0 ] && cd /; } || {
  if [ -d "$1" ]; then echo "boxrun: cannot change to directory $1: Permission denied" >&2
  elif [ -e "$1" ]; then echo "boxrun: cannot change to directory $1: Not a directory" >&2
  else echo "boxrun: cannot change to directory $1: No such file or directory" >&2; fi
  exit 1
}
BOXRUN_N=$5
shift 5
BOXRUN_I=$BOXRUN_N
while [ "$BOXRUN_I" -gt 0 ]; do set -- "$@" "$1"; shift; BOXRUN_I=$((BOXRUN_I - 1)); done
BOXRUN_P=
BOXRUN_F=
case $1 in
*/*) BOXRUN_P=$1 ;;
'') ;;
*)
  set -f
  IFS=:
  for BOXRUN_D in \${PATH-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}; do
    BOXRUN_D=\${BOXRUN_D:-.}/$1
    [ -f "$BOXRUN_D" ] || continue
    [ ! -x "$BOXRUN_D" ] || { BOXRUN_P=$BOXRUN_D; break; }
    BOXRUN_F=$BOXRUN_D
  done
  unset IFS
  ;;
esac
if [ -z "$BOXRUN_P" ]; then
  [ -z "$BOXRUN_F" ] || { echo "boxrun: $BOXRUN_F: Permission denied" >&2; exit 126; }
  echo "boxrun: $1: command not found" >&2
  exit 127
elif [ ! -e "$BOXRUN_P" ]; then
  echo "boxrun: $1: No such file or directory" >&2
  exit 127
elif [ -d "$BOXRUN_P" ]; then
  echo "boxrun: $1: Is a directory" >&2
  exit 126
elif [ ! -x "$BOXRUN_P" ]; then
  echo "boxrun: $1: Permission denied" >&2
  exit 126
fi
unset SHLVL PWD OLDPWD BOXLITE_EXECUTOR
if [ "$BOXRUN_N" -eq 0 ]; then
  BOXRUN_I=$1
  shift
  exec -a "$BOXRUN_I" "$BOXRUN_P" "$@"
fi
shift
BOXRUN_I=$(($# - BOXRUN_N))
set -- "$@" "$BOXRUN_P"
while [ "$BOXRUN_I" -gt 0 ]; do set -- "$@" "$1"; shift; BOXRUN_I=$((BOXRUN_I - 1)); done
exec ${toolsPath}/busybox env "$@"
`;

export interface WrappedCommand {
  readonly execId: string;
  readonly cmd: readonly string[];
  readonly workdir: string;
  /** Nobody asked for `workdir`: it is the box's own. A user to whom it is closed (/root is) starts at the top then. */
  readonly isOwnDirectory: boolean;
  readonly size: { readonly cols: number; readonly rows: number } | null;
  /** Of the box and of this command, filtered. */
  readonly env: readonly [string, string][];
}

export interface EngineCommand {
  readonly program: string;
  readonly args: string[];
  readonly env: [string, string][];
}

/** What the engine is to run for a command. */
export function wrapCommand(command: WrappedCommand): EngineCommand {
  const odd = command.env.filter(([name]) => shellNames.test(name) || !shellIdentifier.test(name));
  const plain = command.env.filter((pair) => !odd.includes(pair));
  const { rows, cols } = command.size ?? { rows: '', cols: '' };
  const header = [
    command.execId,
    command.workdir,
    `${rows}`,
    `${cols}`,
    command.isOwnDirectory ? 'own' : '',
    `${odd.length}`,
  ];
  const args = [
    'sh',
    '-c',
    wrapperScript,
    ...header,
    ...odd.map(([name, value]) => `${name}=${value}`),
    ...command.cmd,
  ];
  return { program: `${toolsPath}/busybox`, args, env: plain };
}

/** As a shell would say it: the engine gives -n for signal n. */
export function exitCodeOf(engineCode: number): number {
  return engineCode < 0 ? 128 - engineCode : engineCode;
}
