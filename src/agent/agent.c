// The agent: a small static program that stays in a box, starts its commands, and carries their bytes to the worker. It
// keeps output and exit codes until the worker has acknowledged them, so they outlive a worker that dies. Its file in
// the box may be executed, but not read, so the kernel closes its memory and descriptors to the other processes.
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "agent.h"

sigset_t signalsBefore;
int isLeaving;
int isDialing;
const char *shellPath = "/dev/.boxrun/busybox";
static int loop;
static struct watch signals;

void setEvents(struct watch *watch, uint32_t events) {
  if (watch->fd < 0 || watch->events == events) return;
  struct epoll_event event = {.events = events, .data.ptr = watch};
  // A descriptor without events must leave the loop: epoll reports a closed other end in any case.
  const int change = events == 0 ? EPOLL_CTL_DEL : watch->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  if (epoll_ctl(loop, change, watch->fd, &event) != 0) _exit(3);
  watch->events = events;
}

void closeWatch(struct watch *watch) {
  if (watch->fd < 0) return;
  setEvents(watch, 0);
  close(watch->fd);
  watch->fd = -1;
}

static void onSignals(struct watch *watch, uint32_t events) {
  (void)events;
  struct signalfd_siginfo info;
  while (read(watch->fd, &info, sizeof info) == (ssize_t)sizeof info)
    if (info.ssi_signo == SIGTERM) isLeaving = 1;
  reapChildren();
}

static int openLoop(void) {
  sigset_t all, some;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &signalsBefore);
  sigemptyset(&some);
  sigaddset(&some, SIGCHLD);
  sigaddset(&some, SIGTERM);
  loop = epoll_create1(EPOLL_CLOEXEC);
  signals = (struct watch){.fd = signalfd(-1, &some, SFD_CLOEXEC | SFD_NONBLOCK), .act = onSignals};
  if (loop < 0 || signals.fd < 0) return -1;
  setEvents(&signals, EPOLLIN);
  return 0;
}

int serve(void) {
  setsid();
  (void)!chdir("/");
  if (openLoop() != 0) return 1;
  initCommands();
  initLine();
  if (isDialing) initDialing();
  else listenForWorkers();
  // When the box is stopped, the agent gets SIGTERM, too. It ends after the worker has the end of the last command, and
  // after the last process that could still write to a pipe: without a reader, such a process is killed by SIGPIPE.
  while (!(isLeaving && runningCount() == 0 && openPipeCount() == 0 && isLineFlushed())) {
    struct epoll_event events[64];
    const int got = epoll_wait(loop, events, sizeof events / sizeof *events, -1);
    for (int at = 0; at < got; at++) {
      struct watch *watch = events[at].data.ptr;
      // An earlier event of this round may have closed it, or stopped the watching.
      if (watch->fd >= 0 && watch->events != 0) watch->act(watch, events[at].events);
    }
    flushLine();
  }
  return 0;
}

/** The way in of a container. The agent inherits its descriptors. */
static int startListening(void) {
  // The kernel does this anyway if the file cannot be read; see the first lines of this file.
  prctl(PR_SET_DUMPABLE, 0);
  if (write(joinFd, "0", 1) != 1) return 1;
  close(joinFd);
  return serve();
}

/** A worker of another version asks for another program, and gets 2. */
int main(int count, char **args) {
  if (count < 3 || atoi(args[2]) != AGENT_VERSION) return 2;
  if (count > 6 && strcmp(args[1], "launch") == 0) return launch(args + 3);
  if (count == 3 && strcmp(args[1], "serve") == 0) return startListening();
  if (count > 3 && strcmp(args[1], "files") == 0) return serveFiles(count - 3, args + 3);
  if (count == 6 && strcmp(args[1], "dial") == 0) return startDialing(args + 3);
  if (count == 5 && strcmp(args[1], "connect") == 0) return connectPort(args + 3);
  return 2;
}
