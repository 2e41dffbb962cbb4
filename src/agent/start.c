// Starts one command for an order, in processes that the agent makes for it: control group, streams, session, ids,
// directory, program. It does the same as wrapper.ts and prints the same messages, so a user cannot tell by which path
// a command was started.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include "agent.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

static char leaderStack[stackBytes] __attribute__((aligned(16)));

static void complain(const char *first, const char *second, const char *third) {
  struct iovec parts[] = {
      {(char *)"sh: ", 4},
      {(char *)first, strlen(first)},
      {(char *)second, strlen(second)},
      {(char *)": ", 2},
      {(char *)third, strlen(third)},
      {(char *)"\n", 1},
  };
  (void)!writev(2, parts, sizeof parts / sizeof *parts);
}

/** Decides as the shell's `test -x` does: by the mode alone. */
static int isExecutable(const struct stat *file, const struct order *order) {
  mode_t bits = S_IXOTH;
  if (order->uid == 0) bits = S_IXUSR | S_IXGRP | S_IXOTH;
  else if (file->st_uid == order->uid) bits = S_IXUSR;
  else if (file->st_gid == order->gid) bits = S_IXGRP;
  else
    for (uint32_t at = 0; at < order->groupCount; at++)
      if (file->st_gid == order->groups[at]) bits = S_IXGRP;
  return (file->st_mode & bits) != 0;
}

/**
 * Returns the program's path as a shell would find it: the first file in PATH that may be executed, otherwise the first
 * file. NULL: there is no such file.
 */
static char *findProgram(const struct order *order) {
  const char *name = order->args[0];
  if (*name == '\0') return NULL;
  if (strchr(name, '/') != NULL) return order->args[0];
  const char *path = NULL;
  for (char **entry = order->env; *entry != NULL; entry++)
    if (strncmp(*entry, "PATH=", 5) == 0) path = *entry + 5;
  if (path == NULL) return NULL;
  char *found = NULL;
  while (*path != '\0') {
    const char *end = strchrnul(path, ':');
    const size_t length = end - path;
    char *candidate = malloc(length + strlen(name) + 3);
    if (candidate == NULL) return NULL;
    if (length == 0) strcpy(candidate, ".");
    else memcpy(candidate, path, length), candidate[length] = '\0';
    strcat(candidate, "/");
    strcat(candidate, name);
    struct stat file;
    if (stat(candidate, &file) == 0 && S_ISREG(file.st_mode)) {
      if (isExecutable(&file, order)) return candidate;
      if (found == NULL) found = candidate;
    }
    path = *end == ':' ? end + 1 : end;
  }
  return found;
}

static void enterDirectory(struct order *order) {
  if (chdir(order->enter) == 0) return;
  // The box's own directory may be closed to a user. Unless the client asked for it, the command starts in / then.
  if ((order->flags & flagOwnDirectory) && order->uid != 0 && chdir("/") == 0) {
    for (char **entry = order->env; *entry != NULL; entry++)
      if (strncmp(*entry, "PWD=", 4) == 0) *entry = (char *)"PWD=/";
    return;
  }
  struct stat directory;
  const char *why = "Permission denied";
  if (stat(order->directory, &directory) != 0) why = "No such file or directory";
  else if (!S_ISDIR(directory.st_mode)) why = "Not a directory";
  complain("cd: can't cd to ", order->directory, why);
  _exit(1);
}

static void becomeCommand(struct order *order) {
  char *name = order->args[0];
  char *path = findProgram(order);
  struct stat file;
  if (path == NULL || stat(path, &file) != 0) {
    complain(name, "", "not found");
    _exit(127);
  }
  if (S_ISDIR(file.st_mode) || !isExecutable(&file, order)) {
    complain(name, "", "Permission denied");
    _exit(126);
  }
  execve(path, order->args, order->env);
  if (errno == ENOEXEC) {
    // The file is a script without #!. readOrder has left room before the arguments.
    char **args = order->args - 1;
    args[0] = (char *)"ash";
    args[1] = path;
    execve(shellPath, args, order->env);
  }
  const int code = errno;
  complain(path, "", code == ENOENT || code == ENOTDIR ? "not found" : strerror(code));
  _exit(code == ENOENT ? 127 : 126);
}

struct start {
  struct order *order;
  struct birth *birth;
};

static void fail(struct birth *birth, uint32_t stage) {
  birth->failedErrno = errno;
  birth->failedStage = stage;
  _exit(1);
}

static void takeIds(const struct order *order, struct birth *birth) {
  // The kernel takes this id for "do not change". The command would then run as root, as the agent does.
  if (order->uid == UINT32_MAX || order->gid == UINT32_MAX) {
    errno = EINVAL;
    fail(birth, stageIds);
  }
  // System calls without the C library, whose functions would look for threads. When root becomes another user, the
  // kernel drops all capabilities.
  if (syscall(SYS_setgroups, (size_t)order->groupCount, order->groups) != 0) fail(birth, stageIds);
  if (syscall(SYS_setresgid, order->gid, order->gid, order->gid) != 0) fail(birth, stageIds);
  if (syscall(SYS_setresuid, order->uid, order->uid, order->uid) != 0) fail(birth, stageIds);
}

static int lead(void *argument) {
  const struct start *start = argument;
  struct order *order = start->order;
  // The leader of a session gets the terminal, and loses it at its end. So here it is the command itself.
  if ((order->flags & flagTerminal) && (setsid() < 0 || ioctl(0, TIOCSCTTY, 0) != 0)) fail(start->birth, stageStreams);
  takeIds(order, start->birth);
  if (syscall(SYS_close_range, 3u, ~0u, 0u) != 0)
    for (int fd = sysconf(_SC_OPEN_MAX); fd > 2; fd--) close(fd);
  sigprocmask(SIG_SETMASK, &signalsBefore, NULL);
  enterDirectory(order);
  becomeCommand(order);
  return 1;
}

static int openInGroup(const struct order *order, const char *file, int flags) {
  char path[2 * nameBytesMax];
  snprintf(path, sizeof path, "%s/%s", order->cgroup, file);
  return openat(groupsFd, path, flags | O_CLOEXEC);
}

/** In a micro-VM, a kill that comes before the command makes its group, with this mark (guest-scripts.ts). */
static int isMarkedAsKilled(const struct order *order) {
  char depth[4] = "";
  const int fd = openInGroup(order, "cgroup.max.depth", O_RDONLY);
  const ssize_t got = fd < 0 ? -1 : read(fd, depth, 3);
  if (fd >= 0) close(fd);
  return got != 3 || strcmp(depth, "max") != 0;
}

/**
 * Opens the file by which this process joins the command's control group. Only version 1 has `tasks`, which moves one
 * thread. That is much faster after a while without moves (cgroups.ts says why), and this process has only one thread.
 */
static int openToJoin(const struct order *order) {
  const int tasks = openInGroup(order, "tasks", O_WRONLY);
  return tasks >= 0 ? tasks : openInGroup(order, "cgroup.procs", O_WRONLY);
}

/**
 * Runs in the first of two processes. This process joins the command's control group and, for a command without a
 * terminal, becomes the leader of a new session. So the command is no session leader, and its own setsid() works. The
 * second process shares this one's memory and is a child of the agent. When it calls exec, the first one ends.
 */
void startCommand(struct order *order, struct birth *birth) {
  if (isDialing && mkdirat(groupsFd, order->cgroup, 0755) != 0 && errno != EEXIST) fail(birth, stageJoin);
  // In a container, the group of a command that was killed before it began has been removed.
  const int join = openToJoin(order);
  if (join < 0 || write(join, "0", 1) != 1) fail(birth, stageJoin);
  close(join);
  if (isDialing && isMarkedAsKilled(order)) fail(birth, stageKilled);
  for (int fd = 0; fd < 3; fd++)
    if (order->streams[fd] >= 0 && dup2(order->streams[fd], fd) < 0) fail(birth, stageStreams);
  if ((order->flags & flagTerminal) == 0) setsid();
  struct start start = {order, birth};
  // The kernel writes the leader's pid before the leader runs. So the agent knows every leader that exists.
  const int flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD;
  if (clone(lead, leaderStack + stackBytes, flags, &start, &birth->leader) < 0) fail(birth, stageFork);
  _exit(0);
}
