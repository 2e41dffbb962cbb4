// What the C files of the host program share. Its file in dist/ is named runner-linux-*, because workers of an earlier
// version start it under this name after an upgrade.
#ifndef BOXRUN_HOST_PROGRAM_H
#define BOXRUN_HOST_PROGRAM_H

#include <stdint.h>

/** Version of arguments and reports; programs.ts has the same. */
#define HOST_PROGRAM_VERSION "1"

/**
 * Inherited by the program of a terminal, and by the wrapper in the box: cgroup.procs of the command's control group.
 */
enum { joinFd = 3 };

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

/** Starts the runtime for a command with a terminal, and copies its bytes. */
int serveTerminal(int count, char **args);

/** Before the box starts: makes its user namespace, and the mounts that show its files in its range. */
int ranges(char **args);

#endif
