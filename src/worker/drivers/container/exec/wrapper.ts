// The wrapper: a few lines of shell that the OCI runtime starts in place of the user's command, in the driver's own
// busybox. They join the command's control group, report, change directory, find the program as a shell would, and
// become it. Pure: this file only builds the argument list.
import { toolsInBox } from '../paths.ts';
import { logicalPath } from '../../../agent/frames.ts';

/**
 * Descriptors that the wrapper inherits: cgroup.procs of the command's control group, the pipe for its report, and the
 * command's own three streams.
 */
const joinFd = 3;
const reportFd = 4;
const [stdinFd, stdoutFd, stderrFd] = [5, 6, 7];
/** With a terminal there is this one in place of the three: a line arrives when the terminal has its owner and size. */
const goFd = 5;
/** Number of these descriptors, from 3 on. */
export const wrapperFds = { withStreams: 5, withTerminal: 3 };

const shell = `${toolsInBox}/busybox`;

/**
 * Variables that the shell itself sets, reads or removes. A command whose environment has one of them is started
 * through `env`.
 */
const shellNames = new Set(
  `ENV FUNCNAME HISTFILE HISTFILESIZE HISTSIZE IFS LINENO MAIL MAILCHECK MAILPATH OLDPWD OPTARG OPTERR OPTIND PPID PS1
   PS2 PS3 PS4 PWD RANDOM SECONDS SHELLOPTS SHLVL TMOUT UID _`.split(/\s+/),
);

// If the command was killed already, its group has been removed. Then joining fails, and nothing runs. The variables of
// these scripts have unlikely names, because the command inherits those that its environment already had.
const joinAndReport = `
echo 0 >&${joinFd} || exit 137
exec ${joinFd}>&- <&${stdinFd} >&${stdoutFd} 2>&${stderrFd} ${stdinFd}<&- ${stdoutFd}>&- ${stderrFd}>&-
echo >&${reportFd}
exec ${reportFd}>&-
`;

/** The same for a terminal. It waits until the terminal has its owner and its size, so the command finds them right. */
const joinAndReportTerminal = `
echo 0 >&${joinFd} || exit 137
exec ${joinFd}>&-
read -r __boxrun_go <&${goFd} || exit 1
exec ${goFd}<&-
unset __boxrun_go
echo >&${reportFd}
exec ${reportFd}>&-
`;

/** The box's own directory may be closed to a user, as /root is. Unless the client asked for it, / is used then. */
const orRootDirectory = `&& { [ "$(${shell} id -u)" = 0 ] || ! cd /; }`;

const enterAndFind = (isOwnDirectory: boolean) => `
if ! cd "$1" 2>/dev/null ${isOwnDirectory ? orRootDirectory : ''}; then
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

// Arguments: directory, command, number of variables, number of arguments, the arguments, the variables. The script
// moves the program and its arguments behind the variables, as `env` expects them.
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
  /** True when the client asked for no directory, so `workdir` is the box's own. */
  readonly isOwnDirectory: boolean;
  readonly env: Readonly<Record<string, string>>;
  readonly isTerminal: boolean;
}

/** Returns the process to start in the box, so that `cmd` runs in `workdir` with exactly `env`. */
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
 * Returns the environment that the command would have after the wrapper, for a start without it. A shell adds PWD, so
 * this adds it, except where the command is started through `env`.
 */
export function environmentOf(env: Readonly<Record<string, string>>, workdir: string): string[] {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  return Object.keys(env).every(survivesShell) ? [...variables, `PWD=${logicalPath(workdir)}`] : variables;
}

function survivesShell(name: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !name.startsWith('__boxrun_') && !shellNames.has(name);
}
