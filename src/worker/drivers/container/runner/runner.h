// What the C files share: the inherited descriptors, the formats of orders and reports (frames.ts has the same), and
// the record of a command. runner.c is the process that stays in the box, and command.c runs in the processes that it
// makes. launch.c, terminal.c and ranges.c run on the host.
#ifndef BOXRUN_RUNNER_H
#define BOXRUN_RUNNER_H

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

// The runner inherits: cgroup.procs of its own control group, the socket to the worker, the directory of the FIFOs, and
// the directory of the commands' control groups. Each directory is the top of a mount that no other process sees, so no
// ".." leads out of it.
enum { joinFd = 3, controlFd = 4, pipesFd = 5, groupsFd = 6 };
/**
 * Only on the host: the connection by which the worker requests FIFOs, and their number per request. launch() gets it
 * as pipesFd and moves it.
 */
enum { poolFd = 7, pipesBatch = 256 };
enum { frameBytesMax = 1 << 20, commandsMax = 4096, groupsMax = 1024, wordsMax = 1 << 16, stackBytes = 1 << 16 };
enum { kindRun = 1, kindSignal = 2, kindPing = 3 };
enum { saysReady = 1, saysStarted = 2, saysFailed = 3, saysExited = 4, saysPong = 5 };
enum { flagOwnDirectory = 1 };
/** The step in which a start failed, for the reports. */
enum { stageFork = 1, stageJoin = 2, stageStreams = 3, stageIds = 4, stageFrame = 5, stageKilled = 6 };

/**
 * Version of these formats and descriptors; frames.ts has the same. Worker and program compare it, because a box may be
 * older than its worker, and a worker older than the program.
 */
#define RUNNER_VERSION "1"

struct header {
  uint32_t bytes; // after this number
  uint32_t kind;
  uint32_t id;
};

struct report {
  uint32_t kind;
  uint32_t id;
  int32_t value;
  uint32_t detail;
};

/** Lies in memory that a starting process shares with the runner, until it becomes the command. */
struct command {
  uint32_t id;
  int32_t helper; // pid of the process that starts the command; 0: it is reaped
  pid_t leader; // pid of the command; 0: it does not exist yet
  int32_t isReaped; // true when the leader is reaped
  int32_t status; // the leader's exit code, as a shell reports it
  uint32_t failedStage;
  int32_t failedErrno;
};

struct order {
  uint32_t uid, gid, flags, groupCount, argCount, envCount;
  const uint32_t *groups;
  char *cgroup, *input, *output, *errors, *enter, *directory;
  char **args; // the last one is NULL
  char **env;
};

/** The signal mask that the runner had at its start. Commands start with it. */
extern sigset_t signalsBefore;

void say(uint32_t kind, uint32_t id, int32_t value, uint32_t detail);

/**
 * On the host: starts the runner and stays as its parent. Arguments: the directory of the commands' control groups,
 * then the command line of the OCI runtime that starts the runner.
 */
int launch(char **args);

/**
 * The kinds of reports from a terminal's process to the worker. `terminalSocketWord` is the word that the process
 * replaces in the runtime's command line.
 */
enum { terminalExited = 1, terminalFailed = 2 };
struct terminalReport {
  uint32_t kind;
  int32_t value;
};
#define terminalSocketWord "@terminal-socket"

/** On the host: starts the runtime for a command with a terminal, and copies its bytes. */
int serveTerminal(int count, char **args);

/** On the host, before the box starts: makes its user namespace, and the mounts that show its files in its range. */
int ranges(char **args);

/** In a process of its own: starts the command and ends. */
void startCommand(struct order *order, struct command *command) __attribute__((noreturn));

#endif
