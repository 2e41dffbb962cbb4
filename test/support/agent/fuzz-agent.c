// Feeds the agent's parser with frames: right ones, changed ones and garbage. It is linked with line.c, command.c and
// stream.c of the agent and takes the place of the main loop. No process is started: fork and waitpid are replaced, and
// so are pipes, into which this program writes the output of commands that do not exist. It checks each frame that the
// agent says. Arguments: the number of frames, and a seed.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "agent.h"

enum { watchesMax = 1 << 14, heldMax = 32, largeFrame = 70000 };

sigset_t signalsBefore;
int isLeaving, isDialing;
const char *shellPath = "";

static struct watch *watches[watchesMax];
static unsigned watchCount;
static int held[heldMax];
static unsigned nextHeld;
static pid_t lastPid = 100, endedPids[2];
static unsigned endedCount;
static uint32_t state;
static unsigned long saidFrames, lines;

static uint32_t next(void) {
  state ^= state << 13;
  state ^= state >> 17;
  return state ^= state << 5;
}
static uint32_t below(uint32_t count) { return next() % count; }

void setEvents(struct watch *watch, uint32_t events) {
  unsigned at = 0;
  while (at < watchCount && watches[at] != watch) at++;
  watch->events = events;
  if (events == 0 && at < watchCount) watches[at] = watches[--watchCount];
  if (events == 0 || at < watchCount) return;
  if (watchCount == watchesMax) abort();
  watches[watchCount++] = watch;
}
void closeWatch(struct watch *watch) {
  if (watch->fd < 0) return;
  setEvents(watch, 0);
  close(watch->fd);
  watch->fd = -1;
}
void startCommand(struct order *order, struct birth *birth) {
  (void)order, (void)birth;
  abort();
}
void dialAgain(void) {}
void stopDialing(void) {}

int fuzzPipe2(int *ends, int flags) {
  if (pipe2(ends, flags) != 0) return -1;
  int *place = &held[nextHeld++ % heldMax];
  if (*place > 0) close(*place);
  *place = fcntl(ends[below(2)], F_DUPFD_CLOEXEC, 3);
  fcntl(*place, F_SETFL, O_NONBLOCK);
  return 0;
}
pid_t fuzzFork(void) {
  if (below(20) == 0) return errno = EAGAIN, -1;
  return lastPid += 2;
}
int fuzzKill(pid_t pid, int number) { return (void)pid, (void)number, 0; }
pid_t fuzzWaitpid(pid_t pid, int *status, int options) {
  (void)pid, (void)options;
  *status = below(256) << 8;
  return endedCount == 0 ? 0 : endedPids[--endedCount];
}

/** Ends a command that does not exist: its helper, and mostly its leader. */
static void endSome(void) {
  struct command *command = findCommand(1 + below(6));
  if (command == NULL) return;
  if (command->helper != 0) {
    command->birth->leader = below(10) == 0 ? 0 : command->helper + 1;
    if (below(20) == 0) command->birth->failedStage = 1 + below(6);
    endedPids[endedCount++] = command->helper;
  } else if (command->birth->leader != 0 && !command->isReaped) endedPids[endedCount++] = command->birth->leader;
  reapChildren();
  endedCount = 0;
}

static void usePipes(void) {
  static char bytes[4096];
  const int fd = held[below(heldMax)];
  if (fd <= 0) return;
  if (below(2) == 0) (void)!write(fd, bytes, below(sizeof bytes));
  else (void)!read(fd, bytes, sizeof bytes);
}

static void actOnce(void) {
  static struct pollfd polled[64];
  static struct watch *whose[64];
  unsigned count = 0;
  for (unsigned at = 0; at < watchCount && count < 64; at++, count++) {
    const short wanted = (watches[at]->events & EPOLLIN ? POLLIN : 0) | (watches[at]->events & EPOLLOUT ? POLLOUT : 0);
    polled[count] = (struct pollfd){.fd = watches[at]->fd, .events = wanted};
    whose[count] = watches[at];
  }
  if (poll(polled, count, 0) <= 0) return;
  for (unsigned at = 0; at < count; at++) {
    const short got = polled[at].revents;
    const uint32_t events = (got & POLLIN ? EPOLLIN : 0) | (got & POLLOUT ? EPOLLOUT : 0) |
                            (got & POLLHUP ? EPOLLHUP : 0) | (got & POLLERR ? EPOLLERR : 0);
    // An earlier call may have closed it.
    if (events != 0 && whose[at]->fd == polled[at].fd && whose[at]->events != 0) whose[at]->act(whose[at], events);
  }
  flushLine();
}

static uint32_t *put(uint32_t *at, uint32_t word) { return *at = word, at + 1; }

/** Makes a frame of the worker. Returns its bytes. */
static size_t makeFrame(char *frame) {
  static const char order[] = "exec_1\0one\0/\0/\0true\0-x\0A=b\0";
  uint32_t *at = (uint32_t *)(void *)frame + 1;
  const uint32_t kind = below(30) == 0 ? next() : 2 + below(9);
  at = put(put(at, kind == kindLeave ? kindPing : kind), 1 + below(6));
  size_t bytes = 0;
  switch (kind) {
    case kindRun: {
      const uint32_t words[] = {0, 0, below(16), 24, 80, 1, 2, 1, 0};
      memcpy(at, words, sizeof words);
      memcpy((char *)at + sizeof words, order, sizeof order - 1);
      bytes = sizeof words + sizeof order - 1;
      break;
    }
    case kindInput:
      bytes = below(10) == 0 ? below(largeFrame) : below(300);
      break;
    case kindSignal:
      put(at, below(70)), bytes = 4;
      break;
    case kindResize:
      put(put(at, below(300)), below(300)), bytes = 8;
      break;
    case kindAcknowledge:
      put(put(put(at, below(2)), below(8000)), 0), bytes = 12;
      break;
    default:
      break;
  }
  size_t length = 12 + bytes;
  if (below(3) == 0) { // Change some bytes, or the length.
    for (uint32_t changes = 1 + below(4); changes > 0; changes--) frame[4 + below(length - 4)] = (char)next();
    if (below(4) == 0) length = 12 + below(bytes + 40);
  }
  *(uint32_t *)(void *)frame = below(40) == 0 ? next() >> below(32) : (uint32_t)length - 4;
  // After kindLeave the agent would take no commands.
  if (*(uint32_t *)(void *)(frame + 4) == kindLeave) *(uint32_t *)(void *)(frame + 4) = kindPing;
  return length;
}

/** Reads what the agent says, and checks that each frame has a possible length and kind. */
static void hear(int fd, char *said, size_t *count) {
  const ssize_t got = recv(fd, said + *count, (1 << 18) - *count, MSG_DONTWAIT);
  if (got > 0) *count += got;
  size_t from = 0;
  struct header header;
  for (; *count - from >= sizeof header; from += 4 + header.bytes, saidFrames++) {
    memcpy(&header, said + from, sizeof header);
    if (header.bytes < 8 || header.bytes > 20 + pieceBytesMax || header.kind < 1 || header.kind > 9) abort();
    if (*count - from < 4 + (size_t)header.bytes) break;
  }
  memmove(said, said + from, *count -= from);
}

int main(int count, char **args) {
  if (count < 3) return 2;
  const unsigned long wanted = strtoul(args[1], NULL, 10);
  state = (uint32_t)strtoul(args[2], NULL, 10) * 2654435761u + 1;
  static char frame[largeFrame + 200], said[1 << 18];
  size_t saidBytes = 0;
  int worker = -1;
  uint32_t lease = 0, left = 0;
  signal(SIGPIPE, SIG_IGN);
  initLine();
  initCommands();
  for (unsigned long frames = 0; frames < wanted; frames++) {
    if (left-- == 0 || worker < 0) {
      int pair[2];
      if (worker >= 0) close(worker);
      if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) return 3;
      worker = pair[0], left = 1 + below(60), saidBytes = 0, lines++;
      addPeer(pair[1]);
      const uint32_t hello[] = {20, kindHello, 1, AGENT_VERSION, ++lease, 0};
      if (write(worker, hello, sizeof hello) != sizeof hello) return 3;
    }
    const size_t length = makeFrame(frame);
    // Some frames come in two pieces. A closed connection takes none.
    const size_t first = below(4) == 0 ? below(length) : length;
    int isOpen = send(worker, frame, first, MSG_NOSIGNAL) >= 0 || errno == EAGAIN;
    actOnce();
    if (first < length && isOpen) isOpen = send(worker, frame + first, length - first, MSG_NOSIGNAL) >= 0 || errno == EAGAIN;
    if (!isOpen) left = 0;
    if (below(3) == 0) usePipes();
    if (below(4) == 0) endSome();
    actOnce();
    if (below(3) == 0) hear(worker, said, &saidBytes);
    if (commandCount() > 1000) return 4;
  }
  printf("%lu frames, %lu connections, %lu frames of the agent\n", wanted, lines, saidFrames);
  return 0;
}
