// What the two parts of the runner share: its descriptors, the formats of orders and reports (frames.ts has the same),
// and what it knows of a command. runner.c is the process that stays in the box; command.c runs in those that it makes;
// launch.c is its half on the host.
#ifndef BOXRUN_RUNNER_H
#define BOXRUN_RUNNER_H

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

// Inherited: the file by which it joins its own control group, the socket, and two directories, each the top of a mount
// that is seen nowhere else, so that no ".." leads out of it: the one of the FIFOs, and the one of the commands'
// control groups.
enum { joinFd = 3, controlFd = 4, pipesFd = 5, groupsFd = 6 };
/**
 * On the host alone: the line by which the worker asks for FIFOs, so many at a time. It comes at the place of pipesFd.
 */
enum { poolFd = 7, pipesBatch = 256 };
enum { frameBytesMax = 1 << 20, commandsMax = 4096, groupsMax = 1024, wordsMax = 1 << 16, stackBytes = 1 << 16 };
enum { kindRun = 1, kindSignal = 2, kindPing = 3 };
enum { saysReady = 1, saysStarted = 2, saysFailed = 3, saysExited = 4, saysPong = 5 };
enum { flagOwnDirectory = 1 };
/** Where a start failed, for the reports. */
enum { stageFork = 1, stageJoin = 2, stageStreams = 3, stageIds = 4, stageFrame = 5, stageKilled = 6 };

/**
 * Of all that is said and inherited here; frames.ts has the same. A box may be older than its worker, and a worker
 * older than the program.
 */
#define RUNNER_VERSION "1"

struct header {
  uint32_t bytes; // of what follows this number
  uint32_t kind;
  uint32_t id;
};

struct report {
  uint32_t kind;
  uint32_t id;
  int32_t value;
  uint32_t detail;
};

/** In memory that the starting processes share with the runner, until they become commands. */
struct command {
  uint32_t id;
  int32_t helper; // not yet reaped, else 0
  pid_t leader; // 0 before there is one
  int32_t isReaped; // the leader
  int32_t status; // the leader's, as a shell would say it
  uint32_t failedStage;
  int32_t failedErrno;
};

struct order {
  uint32_t uid, gid, flags, groupCount, argCount, envCount;
  const uint32_t *groups;
  char *cgroup, *input, *output, *errors, *enter, *directory;
  char **args; // ends with NULL
  char **env;
};

/** The signal mask with which the runner was started, and commands start. */
extern sigset_t signalsBefore;

void say(uint32_t kind, uint32_t id, int32_t value, uint32_t detail);

/**
 * On the host: the directory of the commands' control groups, and the command line of the OCI runtime that starts the
 * runner.
 */
int launch(char **args);

/**
 * What a terminal's process says to the worker, and the word that it replaces in the runtime's command line. See
 * terminal.c.
 */
enum { terminalExited = 1, terminalFailed = 2 };
struct terminalReport {
  uint32_t kind;
  int32_t value;
};
#define terminalSocketWord "@terminal-socket"

/** On the host: starts the runtime for a command with a terminal, and copies. */
int serveTerminal(int count, char **args);

/** On the host, before the box is there: its user namespace and the mounts that show its files in its range of ids. */
int ranges(char **args);

/** In a process of its own: starts the command, and ends. */
void startCommand(struct order *order, struct command *command) __attribute__((noreturn));

#endif
