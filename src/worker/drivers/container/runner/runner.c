// The runner: a small static program that stays in a box and starts its commands, in place of one start of the OCI runtime for each.
// runner.ts starts it and speaks with it over one socket (frames.ts has the same formats); build-runner.mjs compiles it. It does for a
// command what wrapper.ts does, with the same words. Until it becomes the command, a process here runs nothing but this file, and
// its memory and descriptors are closed to the box: the program may be executed there, not read, so the kernel lets nobody look.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

// Inherited: the file by which it joins its own control group, the socket, and two directories, each the top of a mount that is seen
// nowhere else, so that no ".." leads out of it: the one of the FIFOs, and the one of the commands' control groups.
enum { joinFd = 3, controlFd = 4, pipesFd = 5, groupsFd = 6 };
enum { frameBytesMax = 1 << 20, commandsMax = 4096, groupsMax = 1024, wordsMax = 1 << 16, stackBytes = 1 << 16 };
enum { kindRun = 1, kindSignal = 2, kindPing = 3 };
enum { saysReady = 1, saysStarted = 2, saysFailed = 3, saysExited = 4, saysPong = 5 };
enum { flagOwnDirectory = 1 };
/** Where a start failed, for the reports. */
enum { stageFork = 1, stageJoin = 2, stageStreams = 3, stageIds = 4, stageFrame = 5, stageKilled = 6 };

static const char shell[] = "/dev/.boxrun/busybox";

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

static struct command *commands;
static unsigned commandsTop; // no command at or past it
static unsigned running;
static int isLeaving;
static sigset_t signalsBefore;
static char frame[sizeof(struct header) + frameBytesMax] __attribute__((aligned(8)));
static size_t frameBytes;
static char *words[wordsMax];
static char leaderStack[stackBytes] __attribute__((aligned(16)));

static void say(uint32_t kind, uint32_t id, int32_t value, uint32_t detail) {
  const struct report report = {kind, id, value, detail};
  ssize_t sent;
  do sent = send(controlFd, &report, sizeof report, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent != (ssize_t)sizeof report) _exit(1); // The worker is gone.
}

// --- In the process that becomes the command.

static void complain(const char *first, const char *second, const char *third) {
  struct iovec parts[] = {
      {(char *)"sh: ", 4}, {(char *)first, strlen(first)}, {(char *)second, strlen(second)}, {(char *)": ", 2}, {(char *)third, strlen(third)}, {(char *)"\n", 1},
  };
  (void)!writev(2, parts, sizeof parts / sizeof *parts);
}

/** As the shell's `test -x` decides: by the mode alone. */
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

/** The program's path as a shell would find it: the first file in PATH that may be executed, else the first file. NULL: none. */
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
  // A box's own directory may be closed to a user: who has not asked for it starts at the top then.
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
    // A script that does not say what runs it. There is room before the arguments: see readOrder.
    char **args = order->args - 1;
    args[0] = (char *)"ash";
    args[1] = path;
    execve(shell, args, order->env);
  }
  const int code = errno;
  complain(path, "", code == ENOENT || code == ENOTDIR ? "not found" : strerror(code));
  _exit(code == ENOENT ? 127 : 126);
}

struct start {
  struct order *order;
  struct command *command;
};

static void fail(struct command *command, uint32_t stage) {
  command->failedErrno = errno;
  command->failedStage = stage;
  _exit(1);
}

static void takeIds(const struct order *order, struct command *command) {
  // Past the C library, which would look for threads. From root to another user the kernel drops all capabilities.
  if (syscall(SYS_setgroups, (size_t)order->groupCount, order->groups) != 0) fail(command, stageIds);
  if (syscall(SYS_setresgid, order->gid, order->gid, order->gid) != 0) fail(command, stageIds);
  if (syscall(SYS_setresuid, order->uid, order->uid, order->uid) != 0) fail(command, stageIds);
}

static int lead(void *argument) {
  const struct start *start = argument;
  struct order *order = start->order;
  takeIds(order, start->command);
  say(saysStarted, start->command->id, start->command->leader, 0);
  if (syscall(SYS_close_range, 3u, ~0u, 0u) != 0)
    for (int fd = sysconf(_SC_OPEN_MAX); fd > 2; fd--) close(fd);
  sigprocmask(SIG_SETMASK, &signalsBefore, NULL);
  enterDirectory(order);
  becomeCommand(order);
  return 1;
}

static void putStream(const char *name, int flags, int fd, struct command *command) {
  const int opened = openat(pipesFd, name, flags | O_NOFOLLOW | O_CLOEXEC);
  if (opened < 0 || dup2(opened, fd) < 0) fail(command, stageStreams);
}

/**
 * The first of two processes. It joins the command's control group, then makes a session and is its leader, so that the command
 * is not, which a program may count on (setsid). The second one borrows its memory and is the runner's own child; with the second's
 * exec this one ends.
 */
static void startCommand(struct order *order, struct command *command) {
  const size_t length = strlen(order->cgroup);
  char procs[length + sizeof "/cgroup.procs"];
  memcpy(procs, order->cgroup, length);
  strcpy(procs + length, "/cgroup.procs");
  // A command that was killed before it began has no group any more.
  const int join = openat(groupsFd, procs, O_WRONLY | O_CLOEXEC);
  if (join < 0 || write(join, "0", 1) != 1) fail(command, stageJoin);
  close(join);
  if (*order->input != '\0') putStream(order->input, O_RDONLY, 0, command);
  putStream(order->output, O_WRONLY, 1, command);
  putStream(order->errors, O_WRONLY, 2, command);
  setsid();
  struct start start = {order, command};
  // The kernel writes the leader's number before the leader runs: whenever there is one, the runner knows it.
  const int flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD;
  if (clone(lead, leaderStack + stackBytes, flags, &start, &command->leader) < 0) fail(command, stageFork);
  _exit(0);
}

// --- In the runner.

/** Takes one text that ends with a zero byte; NULL when there is none. */
static char *takeWord(char **at, char *end) {
  char *word = *at;
  char *zero = word < end ? memchr(word, '\0', end - word) : NULL;
  if (zero == NULL) return NULL;
  *at = zero + 1;
  return word;
}

/** A name in one of the two directories, and nothing else. */
static int isPlainName(const char *name) {
  return strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int readOrder(struct order *order, char *at, char *end) {
  uint32_t numbers[6];
  if ((size_t)(end - at) < sizeof numbers) return 0;
  memcpy(numbers, at, sizeof numbers);
  at += sizeof numbers;
  *order = (struct order){.uid = numbers[0], .gid = numbers[1], .flags = numbers[2], .groupCount = numbers[3], .argCount = numbers[4], .envCount = numbers[5]};
  if (order->groupCount > groupsMax || (size_t)(end - at) < order->groupCount * sizeof(uint32_t)) return 0;
  order->groups = (const uint32_t *)at; // Frames begin at a multiple of four, and so does this.
  at += order->groupCount * sizeof(uint32_t);
  if (order->argCount == 0 || order->argCount > wordsMax || order->envCount > wordsMax || order->argCount + order->envCount + 4 > wordsMax) return 0;
  char **texts[] = {&order->cgroup, &order->input, &order->output, &order->errors, &order->enter, &order->directory};
  for (unsigned index = 0; index < 6; index++)
    if ((*texts[index] = takeWord(&at, end)) == NULL) return 0;
  if (!isPlainName(order->cgroup) || !isPlainName(order->input) || !isPlainName(order->output) || !isPlainName(order->errors)) return 0;
  char **next = words + 1;
  order->args = next;
  for (uint32_t index = 0; index < order->argCount; index++)
    if ((*next++ = takeWord(&at, end)) == NULL) return 0;
  *next++ = NULL;
  order->env = next;
  for (uint32_t index = 0; index < order->envCount; index++)
    if ((*next++ = takeWord(&at, end)) == NULL) return 0;
  *next = NULL;
  return at == end;
}

static void run(uint32_t id, char *at, char *end) {
  struct order order;
  if (isLeaving || !readOrder(&order, at, end)) {
    say(saysFailed, id, EINVAL, stageFrame);
    return;
  }
  unsigned slot = 0;
  while (slot < commandsMax && commands[slot].id != 0) slot++;
  if (slot == commandsMax) {
    say(saysFailed, id, EAGAIN, stageFork);
    return;
  }
  struct command *command = &commands[slot];
  *command = (struct command){.id = id};
  const pid_t helper = fork();
  if (helper == 0) startCommand(&order, command);
  if (helper < 0) {
    const int code = errno;
    command->id = 0;
    say(saysFailed, id, code, stageFork);
    return;
  }
  command->helper = helper;
  running++;
  if (slot >= commandsTop) commandsTop = slot + 1;
}

static struct command *commandOf(uint32_t id) {
  for (unsigned slot = 0; slot < commandsTop; slot++)
    if (commands[slot].id == id) return &commands[slot];
  return NULL;
}

static void signalLeader(uint32_t id, char *at, char *end) {
  uint32_t number;
  if ((size_t)(end - at) != sizeof number) return;
  memcpy(&number, at, sizeof number);
  const struct command *command = commandOf(id);
  // A process that has ended and is not yet reaped still has its number.
  if (command != NULL && command->leader > 0 && !command->isReaped) kill(command->leader, (int)number);
}

static void obey(const struct header *header, char *at, char *end) {
  if (header->id == 0) _exit(2);
  if (header->kind == kindRun) run(header->id, at, end);
  else if (header->kind == kindSignal) signalLeader(header->id, at, end);
  else if (header->kind == kindPing) say(saysPong, header->id, 0, 0);
  else _exit(2);
}

/** Whole frames at the front of the buffer are obeyed; what is left moves there. */
static void readControl(void) {
  const ssize_t got = recv(controlFd, frame + frameBytes, sizeof frame - frameBytes, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  // Nobody is left to report to: commands and their output belong to whoever takes the box over.
  if (got <= 0) _exit(0);
  frameBytes += got;
  size_t from = 0;
  for (;;) {
    struct header header;
    if (frameBytes - from < sizeof header) break;
    memcpy(&header, frame + from, sizeof header);
    const size_t bytes = sizeof header.bytes + header.bytes;
    if (header.bytes < sizeof header - sizeof header.bytes || bytes > sizeof frame || bytes % 4 != 0) _exit(2);
    if (frameBytes - from < bytes) break;
    // A frame is filled up to a multiple of four with bytes that say how many they are.
    char *end = frame + from + bytes;
    const unsigned char filling = (unsigned char)end[-1];
    if (filling == 0 || filling > 4 || bytes < sizeof header + filling) _exit(2);
    obey(&header, frame + from + sizeof header, end - filling);
    from += bytes;
  }
  memmove(frame, frame + from, frameBytes - from);
  frameBytes -= from;
}

static void finish(struct command *command) {
  if (command->failedStage != 0) say(saysFailed, command->id, command->failedErrno, command->failedStage);
  else if (command->leader == 0) say(saysFailed, command->id, 0, stageKilled);
  else say(saysExited, command->id, command->status, 0);
  command->id = 0;
  running--;
  while (commandsTop > 0 && commands[commandsTop - 1].id == 0) commandsTop--;
}

/** Both processes of a command must have ended: the helper is in its control group too. */
static void reap(void) {
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    for (unsigned slot = 0; slot < commandsTop; slot++) {
      struct command *command = &commands[slot];
      if (command->id == 0) continue;
      const int isHelper = command->helper == pid;
      if (!isHelper && (command->leader != pid || command->isReaped)) continue;
      if (isHelper) command->helper = 0;
      else {
        command->isReaped = 1;
        command->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      }
      if (command->helper == 0 && (command->leader == 0 || command->isReaped)) finish(command);
      break;
    }
  }
}

static int serve(void) {
  // Already so where the file cannot be read; see the top.
  prctl(PR_SET_DUMPABLE, 0);
  if (write(joinFd, "0", 1) != 1) return 1;
  close(joinFd);
  setsid();
  (void)!chdir("/");
  commands = mmap(NULL, commandsMax * sizeof *commands, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (commands == MAP_FAILED) return 1;
  sigset_t all, some;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &signalsBefore);
  sigemptyset(&some);
  sigaddset(&some, SIGCHLD);
  sigaddset(&some, SIGTERM);
  const int signals = signalfd(-1, &some, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals < 0) return 1;
  say(saysReady, 0, 0, 0);
  struct pollfd watched[] = {{controlFd, POLLIN, 0}, {signals, POLLIN, 0}};
  // A box that is stopped asks everything in it to end: this goes when it has reported the last command.
  while (!(isLeaving && running == 0)) {
    if (poll(watched, 2, -1) < 0) continue;
    if (watched[1].revents != 0) {
      struct signalfd_siginfo info;
      while (read(signals, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo == SIGTERM) isLeaving = 1;
      reap();
    }
    if (watched[0].revents != 0) readControl();
  }
  return 0;
}

/** On the host: opens the two directories, each as the top of a mount of its own, and becomes the OCI runtime. */
static int launch(char **args) {
  for (int index = 0; index < 2; index++) {
    const int tree = (int)syscall(SYS_open_tree, AT_FDCWD, args[index], OPEN_TREE_CLONE);
    if (tree < 0) return 1;
    if (tree != pipesFd + index && (dup2(tree, pipesFd + index) < 0 || close(tree) != 0)) return 1;
  }
  execv(args[2], args + 2);
  return 1;
}

int main(int count, char **args) {
  if (count > 4 && strcmp(args[1], "launch") == 0) return launch(args + 2);
  if (count == 2 && strcmp(args[1], "serve") == 0) return serve();
  return 2;
}
