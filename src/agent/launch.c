// The half of the agent that stays on the host. It makes the socket at which the agent listens for workers, opens the
// directory of the commands' control groups, starts the OCI runtime that puts the agent into the box, and becomes the
// agent's parent. It outlives the worker that started it, as the agent does.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "agent.h"

// This number is the same on every architecture (since Linux 5.2). Older headers lack it.
enum { callOpenTree = 428, openTreeClone = 1, backlog = 16 };

/** Gives the descriptor the number `fd`, for the programs that this process starts. Returns 0 on failure. */
static int moveTo(int opened, int fd) {
  if (opened < 0) return 0;
  if (opened == fd) return fcntl(fd, F_SETFD, 0) == 0;
  return dup2(opened, fd) == fd && close(opened) == 0;
}

/**
 * Listens at `name` in `directory`. The path of a socket may only be short, so it goes through /proc. Only the owner of
 * the directory can connect.
 */
static int listenAt(const char *directory, const char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const int place = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  const int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (place < 0 || server < 0) return -1;
  const int length = snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", place, name);
  if (length < 0 || (size_t)length >= sizeof address.sun_path) return -1;
  unlink(address.sun_path);
  const mode_t before = umask(0177);
  const int isBound = bind(server, (struct sockaddr *)&address, sizeof address) == 0;
  umask(before);
  close(place);
  return isBound && listen(server, backlog) == 0 ? server : -1;
}

static int becomeRuntime(char **args, const sigset_t *signals) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigprocmask(SIG_SETMASK, signals, NULL);
  execv(args[0], args);
  return 1;
}

/**
 * Returns when the agent has ended. Its first parent, the runtime, has ended by then, so this process must reap the
 * agent. Until it is reaped, the box's first process cannot end.
 */
static int stay(pid_t runtime, int signals) {
  int failed = 0;
  for (;;) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
      if (pid == runtime) {
        if (status != 0) failed = 1;
        runtime = 0;
      }
    if (pid < 0) return failed;
    struct signalfd_siginfo info;
    // SIGTERM ends only a start under way. The worker kills a started agent by its control group.
    if (read(signals, &info, sizeof info) > 0 && info.ssi_signo == SIGTERM && runtime != 0) kill(runtime, SIGKILL);
  }
}

/**
 * Arguments: directory and name of the socket, directory of the commands' control groups, then the command line of the
 * OCI runtime. The worker gives joinFd.
 */
int launch(char **args) {
  // The directory becomes the top of its own mount, so no ".." leads out of it.
  const int tree = (int)syscall(callOpenTree, AT_FDCWD, args[2], openTreeClone);
  if (!moveTo(fcntl(tree, F_DUPFD, groupsFd + 1), groupsFd)) return 1;
  if (!moveTo(listenAt(args[0], args[1]), listenFd)) return 1;
  // The worker may connect from now on. The runtime and the agent get the stderr of this process, which leads nowhere.
  if (write(1, "\n", 1) != 1 || dup2(2, 1) != 1) return 1;
  sigset_t ends, before;
  sigemptyset(&ends);
  sigaddset(&ends, SIGCHLD);
  sigaddset(&ends, SIGTERM);
  sigprocmask(SIG_BLOCK, &ends, &before);
  const int signals = signalfd(-1, &ends, SFD_CLOEXEC);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const pid_t runtime = fork();
  if (signals < 0 || runtime < 0) return 1;
  if (runtime == 0) _exit(becomeRuntime(args + 3, &before));
  for (int fd = joinFd; fd <= groupsFd; fd++) close(fd);
  return stay(runtime, signals);
}
