// The half of the runner that stays on the host. It opens the runner's two directories (FIFOs, control groups of the
// commands), starts the OCI runtime that puts the runner into the box, becomes the runner's parent when the runtime
// ends, and makes FIFOs for the worker. The FIFOs are in a file system of their own, which is mounted nowhere: on a
// disk, each FIFO would wait for other writes to that disk.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "runner.h"

// These numbers are the same on every architecture (since Linux 5.2). Older headers lack them.
enum { callOpenTree = 428, callFsopen = 430, callFsconfig = 431, callFsmount = 432 };
enum { openTreeClone = 1, configString = 1, configCreate = 6, mountNosuid = 2, mountNodev = 4, mountNoexec = 8 };

/** Gives the descriptor the number `fd`. True on success, also if it already has it. */
static int movedTo(int opened, int fd) {
  if (opened == fd) return 1;
  return opened >= 0 && dup2(opened, fd) == fd && close(opened) == 0;
}

/**
 * Makes the file system for the FIFOs. Only a process with this descriptor can reach it: the worker, as root through
 * /proc, and the runner, which may only open names that it knows.
 */
static int makePipesDirectory(void) {
  const int type = (int)syscall(callFsopen, "tmpfs", 1);
  if (type < 0) return -1;
  if (syscall(callFsconfig, type, configString, "mode", "0711", 0) != 0 ||
      syscall(callFsconfig, type, configString, "size", "64k", 0) != 0)
    return -1;
  if (syscall(callFsconfig, type, configCreate, NULL, NULL, 0) != 0) return -1;
  const int mounted = (int)syscall(callFsmount, type, 0, mountNosuid | mountNodev | mountNoexec);
  close(type);
  return mounted;
}

/** Makes the next FIFOs, whose names are numbers, and tells the worker. */
static int makePipes(void) {
  static unsigned made;
  for (unsigned count = 0; count < pipesBatch; count++) {
    char name[16];
    snprintf(name, sizeof name, "%u", ++made);
    if (mknodat(pipesFd, name, S_IFIFO | 0666, 0) != 0) return -1;
  }
  return send(poolFd, "", 1, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

static int becomeRuntime(char **args, const sigset_t *signals) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigprocmask(SIG_SETMASK, signals, NULL);
  // The directory becomes the top of its own mount, so no ".." leads out of it.
  if (movedTo((int)syscall(callOpenTree, AT_FDCWD, args[0], openTreeClone), groupsFd)) execv(args[1], args + 1);
  return 1;
}

/**
 * Returns when the runner has ended. Its first parent, the runtime, has ended by then, so this process must reap the
 * runner. Until it is reaped, the box's first process cannot end.
 */
static int stay(pid_t runtime, int signals) {
  int failed = 0;
  struct pollfd watched[] = {{poolFd, POLLIN, 0}, {signals, POLLIN, 0}};
  for (;;) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
      if (pid == runtime) {
        if (status != 0) failed = 1;
        runtime = 0;
      }
    if (pid < 0) return failed;
    if (poll(watched, 2, -1) < 0) continue;
    struct signalfd_siginfo info;
    // SIGTERM ends only a start under way. The worker kills a started runner by its control group.
    if (watched[1].revents != 0 && read(signals, &info, sizeof info) > 0 && info.ssi_signo == SIGTERM && runtime != 0)
      kill(runtime, SIGKILL);
    char asked;
    // Serves a request for FIFOs. If that fails, the worker has ended and requests no more.
    if (watched[0].revents != 0 && (recv(poolFd, &asked, 1, 0) != 1 || makePipes() != 0)) watched[0].fd = -1;
  }
}

// runner.h explains the arguments and the descriptors.
int launch(char **args) {
  const mode_t mask = umask(0);
  // The worker's connection comes as pipesFd. It moves to poolFd, so that pipesFd is free for the directory.
  if (!movedTo(fcntl(pipesFd, F_DUPFD_CLOEXEC, poolFd), poolFd)) return 1;
  fcntl(poolFd, F_SETFD, FD_CLOEXEC);
  if (!movedTo(makePipesDirectory(), pipesFd)) return 1;
  sigset_t ends, before;
  sigemptyset(&ends);
  sigaddset(&ends, SIGCHLD);
  sigaddset(&ends, SIGTERM);
  sigprocmask(SIG_BLOCK, &ends, &before);
  const int signals = signalfd(-1, &ends, SFD_CLOEXEC);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const pid_t runtime = fork();
  if (signals < 0 || runtime < 0) return 1;
  umask(mask);
  if (runtime == 0) _exit(becomeRuntime(args, &before));
  umask(0);
  close(joinFd);
  close(controlFd);
  return stay(runtime, signals);
}
