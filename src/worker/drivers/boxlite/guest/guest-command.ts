// The wrapper script that starts every command in a box. The host's busybox runs it, so it also works in an image
// without a shell. It joins the cgroup of the command, and then becomes the command. All values are arguments and never
// part of the script, so nothing has to be quoted. Pure.
import { toolsPath } from '../box-options.ts';

/** Variables that a shell sets itself or does not pass on. `env` sets them after the shell. */
const shellNames =
  /^(IFS|OPTIND|OPTARG|PS[124]|PPID|RANDOM|LINENO|SHLVL|PWD|OLDPWD|CDPATH|ENV|MAIL|MAILPATH|FUNCNAME|HISTFILE|EPOCHSECONDS|EPOCHREALTIME|_)$/;
const shellIdentifier = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * Arguments: $0 the id of the exec; $1 the directory; $2 the rows and $3 the columns of the terminal, or empty; $4
 * `own` when $1 is the workdir of the box and the client asked for no other; $5 the number of NAME=VALUE arguments;
 * then these arguments; then the command. The script's own variables begin with BOXRUN_; box-options.ts removes such
 * variables of the user. The script searches PATH itself, because busybox would run its own applets for names without a
 * slash.
 * A kill may come before this script has joined the cgroup. So the kill (guest-scripts.ts) makes the cgroup if
 * necessary, and sets its cgroup.max.depth. A wrapper that finds this mark starts nothing.
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
  /**
   * True when `workdir` is that of the box, and the client asked for no other. A user who may not enter it (for example
   * /root) then starts in `/`.
   */
  readonly isOwnDirectory: boolean;
  readonly size: { readonly cols: number; readonly rows: number } | null;
  /** The variables of the box and of this command, after boxEnvironment. */
  readonly env: readonly [string, string][];
}

export interface EngineCommand {
  readonly program: string;
  readonly args: string[];
  readonly env: [string, string][];
}

/** Returns the program, the arguments and the variables with which the engine starts the wrapper. */
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

/** Returns a shell's exit code. The engine gives -n for signal n; a shell gives 128+n. */
export function exitCodeOf(engineCode: number): number {
  return engineCode < 0 ? 128 - engineCode : engineCode;
}
