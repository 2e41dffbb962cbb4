// What runs between the OCI runtime and a user's command: a few lines of shell, in the driver's own busybox, that join
// the command's control group, report, change directory, find the program as a shell would, and become it. Pure: builds
// the argument list.
import { toolsInBox } from '../box/paths.ts';
import { logicalPath } from '../runner/frames.ts';

/**
 * Descriptors handed to the wrapper: its control group's cgroup.procs, the pipe on which it reports, and the command's
 * own three.
 */
const joinFd = 3;
const reportFd = 4;
const [stdinFd, stdoutFd, stderrFd] = [5, 6, 7];
/** With a terminal, instead of those three: a line comes here when the terminal has its owner and its size. */
const goFd = 5;
/** How many there are from 3 on. */
export const wrapperFds = { withStreams: 5, withTerminal: 3 };

const shell = `${toolsInBox}/busybox`;

/**
 * Names that the shell itself sets, reads or drops; a command that is given one of them gets its environment another
 * way.
 */
const shellNames = new Set(
  `ENV FUNCNAME HISTFILE HISTFILESIZE HISTSIZE IFS LINENO MAIL MAILCHECK MAILPATH OLDPWD OPTARG OPTERR OPTIND PPID PS1 PS2 PS3
   PS4 PWD RANDOM SECONDS SHELLOPTS SHLVL TMOUT UID _`.split(/\s+/),
);

// A killed command's group is gone before this joins it: then nothing runs. The names are unlikely ones, since
// variables that came with the environment are handed on.
const joinAndReport = `
echo 0 >&${joinFd} || exit 137
exec ${joinFd}>&- <&${stdinFd} >&${stdoutFd} 2>&${stderrFd} ${stdinFd}<&- ${stdoutFd}>&- ${stderrFd}>&-
echo >&${reportFd}
exec ${reportFd}>&-
`;

/** The same in a terminal, which has its owner and its size before the command can ask for them. */
const joinAndReportTerminal = `
echo 0 >&${joinFd} || exit 137
exec ${joinFd}>&-
read -r __boxrun_go <&${goFd} || exit 1
exec ${goFd}<&-
unset __boxrun_go
echo >&${reportFd}
exec ${reportFd}>&-
`;

/** A box's own directory may be closed to a user (/root is): who has not asked for it starts at the top then. */
const orTop = `&& { [ "$(${shell} id -u)" = 0 ] || ! cd /; }`;

const enterAndFind = (isOwnDirectory: boolean) => `
if ! cd "$1" 2>/dev/null ${isOwnDirectory ? orTop : ''}; then
  __boxrun_why='Permission denied'
  if [ ! -e "$1" ]; then
    __boxrun_why='No such file or directory'
  elif [ ! -d "$1" ]; then
    __boxrun_why='Not a directory'
  fi
  echo "sh: cd: can't cd to $1: $__boxrun_why" >&2
  exit 1
fi
__boxrun_path=
case "$2" in
'')
  ;;
*/*)
  __boxrun_path=$2
  ;;
*)
  set -f
  IFS=:
  for __boxrun_dir in $PATH; do
    if [ -f "\${__boxrun_dir:-.}/$2" ]; then
      [ -n "$__boxrun_path" ] || __boxrun_path=\${__boxrun_dir:-.}/$2
      if [ -x "\${__boxrun_dir:-.}/$2" ]; then
        __boxrun_path=\${__boxrun_dir:-.}/$2
        break
      fi
    fi
  done
  unset IFS __boxrun_dir
  set +f
  ;;
esac
if [ -z "$__boxrun_path" ] || [ ! -e "$__boxrun_path" ]; then
  echo "sh: $2: not found" >&2
  exit 127
fi
if [ -d "$__boxrun_path" ] || [ ! -x "$__boxrun_path" ]; then
  echo "sh: $2: Permission denied" >&2
  exit 126
fi
unset OLDPWD SHLVL
`;

const becomeCommand = `
__boxrun_name=$2
shift 2
exec -a "$__boxrun_name" "$__boxrun_path" "$@"
`;

// Arguments here: directory, command, number of variables, number of arguments, the arguments, the variables. They are
// turned round until they stand as \`env\` wants them.
const becomeThroughEnv = `
__boxrun_vars=$3
__boxrun_args=$4
shift 4
set -- "$@" "$__boxrun_path"
while [ "$__boxrun_args" -gt 0 ]; do
  set -- "$@" "$1"
  shift
  __boxrun_args=$((__boxrun_args - 1))
done
exec ${shell} env -i -- "$@"
`;

interface WrappedProcess {
  readonly args: string[];
  readonly env: string[];
}

interface WrappedCommand {
  readonly cmd: readonly string[];
  readonly workdir: string;
  /** Nobody asked for `workdir`: it is the box's own. */
  readonly isOwnDirectory: boolean;
  readonly env: Readonly<Record<string, string>>;
  readonly isTerminal: boolean;
}

/** The process to start in the box so that `cmd` runs in `workdir` with exactly `env`. */
export function wrapCommand({ cmd, workdir, isOwnDirectory, env, isTerminal }: WrappedCommand): WrappedProcess {
  const enter = enterAndFind(isOwnDirectory);
  const join = isTerminal ? joinAndReportTerminal : joinAndReport;
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const call = (script: string, args: readonly string[]) => [shell, 'sh', '-c', script, 'sh', ...args];
  if (Object.keys(env).every(survivesShell)) {
    return { args: call(join + enter + becomeCommand, [workdir, ...cmd]), env: variables };
  }
  const [name = '', ...rest] = cmd;
  const args = [workdir, name, String(variables.length), String(rest.length), ...rest, ...variables];
  return {
    args: call(join + enter + becomeThroughEnv, args),
    env: [`PATH=${env['PATH'] ?? ''}`],
  };
}

/**
 * The same environment for a start without the shell in between: where that is a shell's, it says the directory too.
 */
export function environmentOf(env: Readonly<Record<string, string>>, workdir: string): string[] {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  return Object.keys(env).every(survivesShell) ? [...variables, `PWD=${logicalPath(workdir)}`] : variables;
}

function survivesShell(name: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !name.startsWith('__boxrun_') && !shellNames.has(name);
}
