// The runner: a small static program that stays in a box and starts its commands. Without it, each command costs one
// start of the OCI runtime. Its file in the box may be executed, but not read, so the kernel closes the memory and the
// descriptors of its processes to the box. That ends only when a process becomes the command.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "runner.h"

static struct command *commands;
static unsigned commandsTop; // all commands are below this index
static unsigned running;
static int isLeaving;
sigset_t signalsBefore;
static char frame[sizeof(struct header) + frameBytesMax] __attribute__((aligned(8)));
static size_t frameBytes;
static char *words[wordsMax];

void say(uint32_t kind, uint32_t id, int32_t value, uint32_t detail) {
  const struct report report = {kind, id, value, detail};
  ssize_t sent;
  do sent = send(controlFd, &report, sizeof report, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent != (ssize_t)sizeof report) _exit(1); // The worker has ended.
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
  return strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int readOrder(struct order *order, char *at, char *end) {
  uint32_t numbers[6];
  if ((size_t)(end - at) < sizeof numbers) return 0;
  memcpy(numbers, at, sizeof numbers);
  at += sizeof numbers;
  *order = (struct order){.uid = numbers[0],
                          .gid = numbers[1],
                          .flags = numbers[2],
                          .groupCount = numbers[3],
                          .argCount = numbers[4],
                          .envCount = numbers[5]};
  if (order->groupCount > groupsMax || (size_t)(end - at) < order->groupCount * sizeof(uint32_t)) return 0;
  order->groups = (const uint32_t *)at; // A frame begins at a multiple of four, so this does, too.
  at += order->groupCount * sizeof(uint32_t);
  if (order->argCount == 0 || order->argCount > wordsMax || order->envCount > wordsMax ||
      order->argCount + order->envCount + 4 > wordsMax)
    return 0;
  char **texts[] = {&order->cgroup, &order->input, &order->output, &order->errors, &order->enter, &order->directory};
  for (unsigned index = 0; index < 6; index++)
    if ((*texts[index] = takeWord(&at, end)) == NULL) return 0;
  if (!isPlainName(order->cgroup) || !isPlainName(order->input) || !isPlainName(order->output) ||
      !isPlainName(order->errors))
    return 0;
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
  // Until a process is reaped, no other process gets its pid. So this signal cannot hit another process.
  if (command != NULL && command->leader > 0 && !command->isReaped) kill(command->leader, (int)number);
}

static void obey(const struct header *header, char *at, char *end) {
  if (header->id == 0) _exit(2);
  if (header->kind == kindRun) run(header->id, at, end);
  else if (header->kind == kindSignal) signalLeader(header->id, at, end);
  else if (header->kind == kindPing) say(saysPong, header->id, 0, 0);
  else _exit(2);
}

/**
 * Executes all complete frames, and moves the rest to the front of the buffer. A frame that breaks the format ends the
 * runner. An order that it cannot read in a good frame is refused (stageFrame).
 */
static void readControl(void) {
  const ssize_t got = recv(controlFd, frame + frameBytes, sizeof frame - frameBytes, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  // The worker has ended. The next worker that takes the box over takes care of the commands.
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
    // A frame ends with one to four bytes of padding. Each of these bytes has their number.
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

/**
 * The helper and the leader are both in the command's control group. So the command is finished when both have ended.
 */
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
  // The kernel does this anyway if the file cannot be read: see the first lines of this file.
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
  // When the box is stopped, the runner gets SIGTERM, too. It ends after it has reported the last command.
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

int main(int count, char **args) {
  if (count < 3 || strcmp(args[2], RUNNER_VERSION) != 0) return 2;
  if (count > 4 && strcmp(args[1], "launch") == 0) return launch(args + 3);
  if (count > 4 && strcmp(args[1], "terminal") == 0) return serveTerminal(count - 3, args + 3);
  if (count == 11 && strcmp(args[1], "ranges") == 0) return ranges(args + 3);
  if (count == 3 && strcmp(args[1], "serve") == 0) return serve();
  return 2;
}
