// Lists the processes of a box and sends signals to one of them, by a script for the driver's busybox. So both drivers
// do it in the same way, and a pid is what programs in the box see. The tools of BoxRun itself are left out.
import { posix } from 'node:path';
import type { BoxProcess } from '../../shared/api.ts';
import { runScript, type ScriptTools } from './run-script.ts';
import { refusedExit } from './scripts.ts';

/**
 * Prints the script's own pid, then the parts of a list, each after a line `--`. Each part is one program for all
 * processes. A process chooses its name and its words, and both may have line breaks, so each line names its file.
 */
const listScript = `
echo $$
for part in stat Uid cgroup cmdline uptime users; do
  echo --
  case $part in
    stat | cmdline) grep -H "" /proc/[0-9]*/$part ;;
    Uid) grep -H ^Uid: /proc/[0-9]*/status ;;
    cgroup) grep -H /exec_ /proc/[0-9]*/cgroup ;;
    uptime) cat /proc/uptime ;;
    users) cat /etc/passwd ;;
  esac 2>/dev/null
done
true
`;

/** $1 the signal, $2 the pid, $3 the directory of the tools. */
const signalScript = `
words=
read -r words <"/proc/$2/cmdline" || [ -d "/proc/$2" ] || { echo "no process $2 runs in the box" >&2; exit ${refusedExit}; }
case $words in "$3"/*) echo "process $2 belongs to BoxRun itself" >&2; exit ${refusedExit} ;; esac
[ "$2" != 1 ] || { echo "process 1 holds the box; stop the box instead" >&2; exit ${refusedExit}; }
kill "-$1" "$2"
`;

/** Processes in one list. The rest is left out. */
const processesMax = 4_096;
/** Ticks of the clock in /proc in one second. It is 100 on every architecture that BoxRun runs on. */
const ticksPerSecond = 100;
const pageBytes = 4_096;

/**
 * The processes of the box, by pid; at most processesMax.
 * @throws RUNTIME_ERROR, TIMEOUT
 */
export async function listProcesses(driver: ScriptTools): Promise<BoxProcess[]> {
  return processesOf(await runScript(driver, listScript, []), posix.dirname(driver.busyboxPath));
}

/**
 * Sends a signal to one process.
 * @param signal its number
 * @throws VALIDATION_ERROR if there is no such process, or it is not one of the user's; RUNTIME_ERROR, TIMEOUT
 */
export async function signalProcess(driver: ScriptTools, pid: number, signal: number): Promise<void> {
  await runScript(driver, signalScript, [String(signal), String(pid), posix.dirname(driver.busyboxPath)]);
}

/** Reads what `listScript` printed. The box wrote it, so a process that is not described as expected is left out. */
function processesOf(text: string, toolsDir: string): BoxProcess[] {
  const [own = '', stats = '', ids = '', groups = '', words = '', uptime = '', users = ''] = text.split(/^--\n/m);
  const scriptPid = Number(own);
  const uids = byPid(ids, /^Uid:\s+\d+\s+(\d+)/m);
  const execs = byPid(groups, /\/(exec_[\w-]{12})(?:\/|$)/m);
  const commands = byPid(words, /^(.*)$/s);
  const names = new Map(users.split('\n').map((line) => [line.split(':')[2] ?? '', line.split(':')[0] ?? '']));
  const upS = Number.parseFloat(uptime);
  const isOurs = (pid: number) => commands.get(pid)?.startsWith(`${toolsDir}/`) === true;
  return [...byPid(stats, /^(.*)$/s)]
    .flatMap(([pid, stat]): BoxProcess[] => {
      const [, name = '', state = '', rest = ''] = /^\d+ \((.*)\) (\S) (.*)$/s.exec(stat) ?? [];
      const numbers = rest.split(' ').map(Number); // The first one is field 4 of /proc/PID/stat: see proc(5).
      const field = (number: number) => numbers[number - 4] ?? 0;
      // Only a process that has ended has no words. If its parent has taken its exit code, it is gone.
      const command = commands.get(pid)?.replace(/\0$/, '').replaceAll('\0', ' ') ?? (state === 'Z' ? `[${name}]` : '');
      if (state === '' || command === '' || isOurs(pid)) return [];
      // The agent is about to take the exit code of a command, or of a process with which it started one.
      if (state === 'Z' && isOurs(field(4))) return [];
      if (pid === scriptPid || field(4) === scriptPid) return [];
      const uid = uids.get(pid) ?? '0';
      return [
        {
          pid,
          ppid: field(4),
          uid: Number(uid),
          user: names.get(uid) ?? uid,
          state,
          cpu_seconds: (field(14) + field(15)) / ticksPerSecond,
          memory_bytes: field(24) * pageBytes,
          age_seconds: Math.max(0, Math.round(upS - field(22) / ticksPerSecond)),
          command,
          exec_id: execs.get(pid) ?? null,
        },
      ];
    })
    .sort((one, other) => one.pid - other.pid)
    .slice(0, processesMax);
}

/** What `wanted` finds in the text of each process. A line is `/proc/PID/FILE:` and a line of that file. */
function byPid(lines: string, wanted: RegExp): Map<number, string> {
  const texts = new Map<number, string>();
  for (const line of lines.split('\n')) {
    const [, pid, text] = /^\/proc\/(\d+)\/\w+:(.*)$/s.exec(line) ?? [];
    if (pid === undefined || text === undefined) continue;
    const before = texts.get(Number(pid));
    texts.set(Number(pid), before === undefined ? text : `${before}\n${text}`);
  }
  return new Map(
    [...texts].flatMap(([pid, text]): [number, string][] => {
      const found = wanted.exec(text)?.[1];
      return found === undefined ? [] : [[pid, found]];
    }),
  );
}
