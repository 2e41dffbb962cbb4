// The life of a command in the agent: its order, its streams, its processes, its end, and its release. A slot in the
// table belongs to a command from its order until the worker releases it, also when no worker is there meanwhile.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "agent.h"

static struct command commands[commandsMax];
/** In memory that the agent shares with the processes that start commands. Each slot has one. */
static struct birth *births;
static unsigned top; // all commands are below this slot
static unsigned taken, running;
static struct command *queueFirst, *queueLast;
static char *words[wordsMax];
static uint32_t groups[groupsMax];

void initCommands(void) {
  births = mmap(NULL, commandsMax * sizeof *births, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (births == MAP_FAILED) _exit(1);
}

struct command *findCommand(uint32_t id) {
  for (unsigned slot = 0; slot < top; slot++)
    if (commands[slot].id == id) return &commands[slot];
  return NULL;
}

unsigned commandCount(void) { return taken; }

unsigned runningCount(void) { return running; }

void queueCommand(struct command *command) {
  if (command->isQueued) return;
  command->isQueued = 1;
  command->next = NULL;
  if (queueFirst == NULL) queueFirst = command;
  else queueLast->next = command;
  queueLast = command;
}

struct command *nextQueued(void) {
  struct command *command = queueFirst;
  if (command == NULL) return NULL;
  queueFirst = command->next;
  command->isQueued = 0;
  return command;
}

static void unqueue(struct command *command) {
  if (!command->isQueued) return;
  struct command **link = &queueFirst, *before = NULL;
  while (*link != command) before = *link, link = &(*link)->next;
  *link = command->next;
  if (queueLast == command) queueLast = before;
  command->isQueued = 0;
}

void sayAllAgain(void) {
  for (unsigned slot = 0; slot < top; slot++) {
    struct command *command = &commands[slot];
    if (command->id == 0) continue;
    command->isKnownSaid = command->isStartedSaid = command->isFailedSaid = command->isExitedSaid = 0;
    for (unsigned which = 0; which < 2; which++) {
      command->outputs[which].sent = command->outputs[which].acked;
      command->outputs[which].isEndSaid = 0;
    }
    command->input.consumedSaid = command->input.consumed; // sayKnown has it.
    queueCommand(command);
  }
}

/** Takes one text that ends with a zero byte. Returns NULL if there is none. */
static char *takeWord(char **at, char *end) {
  char *word = *at;
  char *zero = word < end ? memchr(word, '\0', end - word) : NULL;
  if (zero == NULL) return NULL;
  *at = zero + 1;
  return word;
}

/** True for a name that stays in its directory. */
static int isPlainName(const char *name) {
  return *name != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int readOrder(struct order *order, char *at, char *end) {
  uint32_t numbers[8];
  if ((size_t)(end - at) < sizeof numbers) return 0;
  memcpy(numbers, at, sizeof numbers);
  at += sizeof numbers;
  *order = (struct order){.uid = numbers[0],
                          .gid = numbers[1],
                          .flags = numbers[2],
                          .rows = numbers[3],
                          .cols = numbers[4],
                          .groupCount = numbers[5],
                          .groups = groups,
                          .argCount = numbers[6],
                          .envCount = numbers[7],
                          .streams = {-1, -1, -1}};
  if (order->groupCount > groupsMax || (size_t)(end - at) < order->groupCount * sizeof *groups) return 0;
  memcpy(groups, at, order->groupCount * sizeof *groups);
  at += order->groupCount * sizeof *groups;
  // Two zero words end the lists, and one word before the arguments is free for a shell.
  if (order->argCount == 0 || order->argCount > wordsMax - 3 || order->envCount > wordsMax - 3 - order->argCount)
    return 0;
  char **texts[] = {&order->name, &order->cgroup, &order->enter, &order->directory};
  for (unsigned index = 0; index < 4; index++)
    if ((*texts[index] = takeWord(&at, end)) == NULL) return 0;
  if (strlen(order->name) >= nameBytesMax || strlen(order->cgroup) >= nameBytesMax) return 0;
  if (!isPlainName(order->name) || !isPlainName(order->cgroup)) return 0;
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

/** The user of the command may open its streams again, as /dev/stdout, so they belong to this user. */
static int giveTo(int fd, const struct order *order, mode_t mode) {
  return fchown(fd, order->uid, order->gid) == 0 && fchmod(fd, mode) == 0;
}

/** Makes a pipe whose end for the command becomes `*its`. Returns the agent's end, or -1. */
static int makePipe(int *its, int isInput, const struct order *order) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return -1;
  const int own = ends[isInput];
  *its = ends[!isInput];
  if (fcntl(own, F_SETFL, O_NONBLOCK) == 0 && giveTo(*its, order, 0666)) return own;
  close(own);
  return -1; // The caller closes the other end.
}

static int makePipes(struct command *command, struct order *order) {
  for (unsigned which = 0; which < 2; which++) {
    const int own = makePipe(&order->streams[1 + which], 0, order);
    if (own < 0) return 0;
    openStream(&command->outputs[which], command, own);
  }
  if ((order->flags & flagInput) == 0) return 1;
  const int own = makePipe(&order->streams[0], 1, order);
  if (own < 0) return 0;
  openInput(&command->input, command, own);
  return 1;
}

/** Makes a terminal. The box may have another file at /dev/ptmx, so every call may fail. */
static int makeTerminal(struct command *command, struct order *order) {
  int locked = 0;
  const int outer = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  command->terminal = outer;
  if (outer < 0 || ioctl(outer, TIOCSPTLCK, &locked) != 0) return 0;
  const int inner = ioctl(outer, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  command->inner = inner;
  if (inner < 0 || !giveTo(inner, order, 0620)) return 0;
  resizeCommand(command, order->rows, order->cols);
  const int reads = fcntl(outer, F_DUPFD_CLOEXEC, 3), writes = fcntl(outer, F_DUPFD_CLOEXEC, 3);
  if (reads >= 0) openStream(&command->outputs[0], command, reads);
  if (writes >= 0) openInput(&command->input, command, writes);
  command->outputs[1].isEnded = 1; // A terminal has one output.
  for (unsigned which = 0; which < 3; which++)
    if ((order->streams[which] = fcntl(inner, F_DUPFD_CLOEXEC, 3)) < 0) return 0;
  return reads >= 0 && writes >= 0;
}

static void closeFd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static void closeAll(struct command *command) {
  for (unsigned which = 0; which < 2; which++) closeStream(&command->outputs[which]);
  closeInput(&command->input);
  closeFd(&command->inner);
  closeFd(&command->terminal);
}

static void fail(struct command *command, uint32_t stage, int code) {
  command->birth->failedStage = stage;
  command->birth->failedErrno = code;
  command->isFailed = 1;
  running--;
  closeAll(command);
  queueCommand(command);
}

/** Takes a slot for a new command. NULL: all are taken. */
static struct command *takeSlot(uint32_t id) {
  unsigned slot = 0;
  while (slot < commandsMax && commands[slot].id != 0) slot++;
  if (slot == commandsMax) return NULL;
  if (slot >= top) top = slot + 1;
  struct command *command = &commands[slot];
  *command = (struct command){.id = id, .birth = &births[slot], .terminal = -1, .inner = -1, .isKnownSaid = 1};
  *command->birth = (struct birth){0};
  command->input = (struct input){.watch.fd = -1, .command = command};
  for (unsigned which = 0; which < 2; which++)
    command->outputs[which] = (struct stream){.watch.fd = -1, .command = command};
  taken++;
  running++;
  return command;
}

enum { killsUnknown = UINT32_MAX };

/**
 * How many processes of the box the kernel has killed for lack of memory, as the control group above those of all
 * commands counts it. In a container the worker counts.
 */
static uint32_t countMemoryKills(void) {
  static const char name[] = "\noom_kill ";
  char text[512];
  const int fd = isDialing ? openat(groupsFd, "memory.events", O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return killsUnknown;
  const ssize_t bytes = read(fd, text, sizeof text - 1);
  close(fd);
  text[bytes < 0 ? 0 : bytes] = '\0';
  const char *line = strstr(text, name);
  return line == NULL ? killsUnknown : (uint32_t)strtoul(line + sizeof name - 1, NULL, 10);
}

void runCommand(uint32_t id, char *at, char *end) {
  struct command *command = takeSlot(id);
  if (command == NULL) _exit(4); // The worker starts far fewer commands.
  struct order order;
  if (isLeaving || !readOrder(&order, at, end)) {
    fail(command, stageFrame, EINVAL);
    return;
  }
  command->flags = order.flags;
  command->memoryKills = countMemoryKills();
  strcpy(command->name, order.name);
  if (isDialing) strcpy(command->group, order.cgroup);
  const int isReady = order.flags & flagTerminal ? makeTerminal(command, &order) : makePipes(command, &order);
  int code = errno;
  const pid_t helper = isReady ? fork() : -1;
  if (helper == 0) startCommand(&order, command->birth);
  if (isReady) code = errno;
  for (unsigned which = 0; which < 3; which++) closeFd(&order.streams[which]);
  if (helper < 0) fail(command, isReady ? stageFork : stageStreams, code);
  else command->helper = helper;
}

void signalCommand(struct command *command, int number) {
  // Until a process is reaped, no other process gets its pid. So this signal cannot hit another process.
  if (command->birth->leader > 0 && !command->isReaped) kill(command->birth->leader, number);
}

void resizeCommand(struct command *command, uint32_t rows, uint32_t cols) {
  const struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
  if (command->terminal >= 0) ioctl(command->terminal, TIOCSWINSZ, &size);
}

/**
 * Removes the control group of an ended command. If the command has left processes in it, the next calls try again.
 * Beyond the bound, the group stays until the box is stopped.
 */
static void removeGroup(const char *name) {
  static char lingering[lingeringMax][nameBytesMax];
  for (unsigned at = 0; at < lingeringMax; at++)
    if (*lingering[at] != '\0' && unlinkat(groupsFd, lingering[at], AT_REMOVEDIR) == 0) *lingering[at] = '\0';
  if (*name == '\0' || unlinkat(groupsFd, name, AT_REMOVEDIR) == 0 || errno != EBUSY) return;
  for (unsigned at = 0; at < lingeringMax; at++)
    if (*lingering[at] == '\0') {
      strcpy(lingering[at], name);
      return;
    }
}

int forgetCommand(struct command *command) {
  if (!command->isExited && !command->isFailed) return 0;
  closeAll(command);
  removeGroup(command->group);
  unqueue(command);
  command->id = 0;
  taken--;
  while (top > 0 && commands[top - 1].id == 0) top--;
  return 1;
}

/** Both processes of the command have ended. The helper and the leader are both in its control group. */
static void finish(struct command *command) {
  const struct birth *birth = command->birth;
  if (birth->failedStage != 0) fail(command, birth->failedStage, birth->failedErrno);
  else if (birth->leader == 0) fail(command, stageKilled, 0);
  else {
    for (unsigned which = 0; which < 2; which++) {
      drainStream(&command->outputs[which]);
      command->atExit[which] = writtenTo(&command->outputs[which]);
    }
    const uint32_t kills = countMemoryKills();
    const int isKnown = kills != killsUnknown && command->memoryKills != killsUnknown;
    command->memoryKills = isKnown ? kills - command->memoryKills : killsUnknown;
    command->isExited = 1;
    running--;
    queueCommand(command);
  }
}

static void helperEnded(struct command *command) {
  command->helper = 0;
  // The leader runs its program now, which has the terminal open.
  closeFd(&command->inner);
  if (command->birth->leader == 0 || command->birth->failedStage != 0) return;
  command->isStarted = 1;
  queueCommand(command);
}

static uint64_t microsecondsOf(struct timeval time) { return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec; }

void reapChildren(void) {
  int status;
  struct rusage used;
  for (pid_t pid; (pid = wait4(-1, &status, WNOHANG, &used)) > 0;) {
    if (WIFSTOPPED(status)) {
      // The command has made its parent its tracer (PTRACE_TRACEME). It goes on, without a tracer.
      const int number = WSTOPSIG(status);
      ptrace(PTRACE_DETACH, pid, NULL, number == SIGTRAP ? 0L : (long)number);
      continue;
    }
    for (unsigned slot = 0; slot < top; slot++) {
      struct command *command = &commands[slot];
      if (command->id == 0 || command->isExited || command->isFailed) continue;
      const int isHelper = command->helper == pid;
      if (!isHelper && (command->birth->leader != pid || command->isReaped)) continue;
      if (isHelper) helperEnded(command);
      else {
        command->isReaped = 1;
        command->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        command->cpuMicroseconds = microsecondsOf(used.ru_utime) + microsecondsOf(used.ru_stime);
        command->peakKib = (uint32_t)used.ru_maxrss;
      }
      if (command->helper == 0 && (command->birth->leader == 0 || command->isReaped)) finish(command);
      break;
    }
  }
}
