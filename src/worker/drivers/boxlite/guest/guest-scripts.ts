// The scripts of the VM's control. They run in the VM but outside of the box: as root of the VM, in its first
// namespaces, with the host's busybox. Values are arguments, so nothing has to be quoted. A cgroup holds the processes
// of one command: a child cannot leave it by a double fork, a new session or an empty environment.
import { toolsPath } from '../box-options.ts';

/** The parent of the cgroups of all commands. */
const cgroupRoot = '/sys/fs/cgroup/boxrun';

/**
 * $1 the engine's name for the container; further arguments: addresses of the host that the box must not reach. Prints
 * about the box's process 1: its pid, lines of its status, and its environment in base64. Before the environment there
 * is a line `agent` if the box has the agent's program. The first call in the life of a VM also makes:
 * - A memory file system over the tools volume, with copies of busybox and the agent. The process of the VM serves the
 *   volume. The engine's system call filter kills this process when a program (`df`) asks for the size of the volume.
 * - The cgroups of commands. Any user of the box may write to them, so a command can join its own cgroup.
 *
 * youki, the engine's container runtime in the VM, gives the control group of the box the name `:youki:$1`.
 */
export const setUpScript = `
set -e
BOXRUN_INIT=
while read -r BOXRUN_P; do
  BOXRUN_T=/proc/$BOXRUN_P/status
  while read -r BOXRUN_K BOXRUN_V; do
    case "$BOXRUN_K" in NSpid:) case "$BOXRUN_V" in *[!0-9]1) BOXRUN_INIT=$BOXRUN_P ;; esac ;; esac
  done <"$BOXRUN_T" 2>/dev/null || :
done <"/sys/fs/cgroup/:youki:$1/cgroup.procs"
[ -n "$BOXRUN_INIT" ] || { echo "the box has no process 1" >&2; exit 1; }
shift
for BOXRUN_A in "$@"; do ip route replace blackhole "$BOXRUN_A"; done
if [ ! -d ${cgroupRoot} ]; then
  mkdir ${cgroupRoot}
  chmod 777 ${cgroupRoot}
  chmod 666 ${cgroupRoot}/cgroup.procs /sys/fs/cgroup/cgroup.procs
  nsenter -t "$BOXRUN_INIT" -m -p ${toolsPath}/busybox sh -ec '
    [ ! -e ${toolsPath}/agent ] || exec 3<${toolsPath}/agent
    mount -t tmpfs -o mode=755,size=8m,nosuid,nodev boxrun ${toolsPath}
    cat /proc/self/exe >${toolsPath}/busybox
    chmod 755 ${toolsPath}/busybox
    if [ -e /proc/self/fd/3 ]; then
      cat <&3 >${toolsPath}/agent
      chmod 711 ${toolsPath}/agent
    fi
    mkdir ${toolsPath}/all ${toolsPath}/cg
    mount -t cgroup2 boxrun ${toolsPath}/all
    mount -o bind ${toolsPath}/all/boxrun ${toolsPath}/cg
    umount ${toolsPath}/all
    rmdir ${toolsPath}/all
    mount -t tmpfs -o remount,ro,nosuid,nodev boxrun ${toolsPath}
  '
fi
echo "$BOXRUN_INIT"
grep -E '^(Uid|Gid|Groups):' "/proc/$BOXRUN_INIT/status"
[ ! -e "/proc/$BOXRUN_INIT/root${toolsPath}/agent" ] || echo agent
base64 <"/proc/$BOXRUN_INIT/environ"
`;

/** The number of steps of 10 ms to wait for an empty cgroup. Then the script fails. */
const emptySteps = 800;

/**
 * Kills all processes in cgroup $1, and waits until it is empty. With cgroup.kill, no process can escape by a fork. The
 * agent removes the cgroup of an ended command, so it may vanish meanwhile.
 */
const killFunction = `
kill_group() {
  BOXRUN_I=0
  while :; do
    { echo 1 >"$1/cgroup.kill"; } 2>/dev/null || { [ ! -d "$1" ]; return; }
    BOXRUN_E=
    { read -r BOXRUN_E <"$1/cgroup.events"; } 2>/dev/null
    [ "$BOXRUN_E" != "populated 0" ] || return 0
    BOXRUN_I=$((BOXRUN_I + 1))
    [ "$BOXRUN_I" -lt ${emptySteps} ] || return 1
    usleep 10000
  done
}
`;

/** $1 the id of an exec. A wrapper that has not joined its cgroup yet finds the mark and ends (guest-command.ts). */
export const killExecScript = `${killFunction}
BOXRUN_G=${cgroupRoot}/$1
if mkdir "$BOXRUN_G" 2>/dev/null || { [ ! -d "$BOXRUN_G" ] && mkdir "$BOXRUN_G"; }; then
  chmod 777 "$BOXRUN_G" && chmod 666 "$BOXRUN_G"/*
elif [ ! -d "$BOXRUN_G" ]; then
  exit 1
fi
{ echo 0 >"$BOXRUN_G/cgroup.max.depth"; } 2>/dev/null
kill_group "$BOXRUN_G"
`;

/** $1 the id of an exec. Prints `populated 1` when a process of it lives, and an empty line without a cgroup. */
export const hasProcessesScript = `
BOXRUN_E=
[ ! -e ${cgroupRoot}/"$1"/cgroup.events ] || read -r BOXRUN_E <${cgroupRoot}/"$1"/cgroup.events
echo "$BOXRUN_E"
`;

/** Prints the ids of execs that have a cgroup. */
export const listScript = `
for BOXRUN_D in ${cgroupRoot}/*/; do
  BOXRUN_D=\${BOXRUN_D%/}
  [ ! -d "$BOXRUN_D" ] || echo "\${BOXRUN_D##*/}"
done
`;

/** Arguments: ids of execs whose background children live on. All others are killed, and their cgroups are removed. */
export const killStraysScript = `${killFunction}
BOXRUN_R=0
for BOXRUN_D in ${cgroupRoot}/*/; do
  BOXRUN_D=\${BOXRUN_D%/}
  [ -d "$BOXRUN_D" ] || continue
  BOXRUN_K=
  for BOXRUN_A in "$@"; do [ "$BOXRUN_A" != "\${BOXRUN_D##*/}" ] || BOXRUN_K=1; done
  [ -z "$BOXRUN_K" ] || continue
  { echo 0 >"$BOXRUN_D/cgroup.max.depth"; } 2>/dev/null
  kill_group "$BOXRUN_D" || BOXRUN_R=1
  rmdir "$BOXRUN_D" 2>/dev/null || :
done
exit $BOXRUN_R
`;

/**
 * Arguments: ids of ended execs. Removes their cgroups. Prints the ids of those that still have background children.
 */
export const removeCgroupsScript = `
for BOXRUN_A in "$@"; do
  BOXRUN_D=${cgroupRoot}/$BOXRUN_A
  [ ! -d "$BOXRUN_D" ] || rmdir "$BOXRUN_D" 2>/dev/null || echo "$BOXRUN_A"
done
`;

/**
 * $1 the grace in steps of 50 ms. Asks every process of a command to end: HUP if it has a terminal, TERM, and CONT in
 * case it is stopped. After the grace, kills all that are left. Then flushes the disks.
 */
export const stopScript = `${killFunction}
cat ${cgroupRoot}/*/cgroup.procs 2>/dev/null | while read -r BOXRUN_P; do
  BOXRUN_T=
  read -r BOXRUN_T <"/proc/$BOXRUN_P/stat"
  # The fields after the name are: state, parent, group, session, terminal.
  set -- "$1" \${BOXRUN_T##*) }
  [ "\${6:-0}" = 0 ] || kill -HUP "$BOXRUN_P" 2>/dev/null
  kill -TERM "$BOXRUN_P" 2>/dev/null
  kill -CONT "$BOXRUN_P" 2>/dev/null
done
BOXRUN_S=$1
while grep -q "populated 1" ${cgroupRoot}/cgroup.events; do
  [ "$BOXRUN_S" -gt 0 ] || { kill_group ${cgroupRoot}; break; }
  BOXRUN_S=$((BOXRUN_S - 1))
  usleep 50000
done
sync
`;
