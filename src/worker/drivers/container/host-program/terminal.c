// A command's terminal, on the host. It starts the OCI runtime, receives the terminal that the runtime makes in the
// box, and copies bytes between that and the worker until no process in the box has the terminal open. It reads only
// what the other side can take, so nothing is lost, and only the program in the terminal has to wait.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "host-program.h"

// From the worker: 0 and 1 are its pipes, 2 takes messages, 3 is joinFd (host-program.h), then reportFd, lineFd and
// runDirFd. The runtime passes 3, 4 and 5 on to the wrapper. For the wrapper, 5 is goFd.
enum { reportFd = 4, lineFd = 5, goFd = 5, runDirFd = 6 };
enum { pieceBytes = 1 << 16 };

/** Bytes on their way in one direction. */
struct flow {
  int from, to; // -1: that end is closed
  size_t at, end;
  char bytes[pieceBytes];
};
static struct flow input, output;
static pid_t runtime; // 0: it has ended
static int isLeaderUp = 1;

struct size {
  uint16_t rows, cols;
};

static int setSize(int terminal, struct size size) {
  const struct winsize wanted = {.ws_row = size.rows, .ws_col = size.cols};
  return ioctl(terminal, TIOCSWINSZ, &wanted);
}

/** Reports to the worker. A failure is ignored: then the worker has ended. */
static void tell(uint32_t kind, int32_t value) {
  const struct terminalReport report = {kind, value};
  (void)!send(lineFd, &report, sizeof report, MSG_NOSIGNAL);
}

static char socketPath[108];

static void leave(int code) {
  unlink(socketPath);
  _exit(code);
}

/**
 * Listens on the socket to which the runtime sends the terminal. A socket's path may only be short, so both sides use a
 * path below /proc.
 */
static int listenForTerminal(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(socketPath, sizeof socketPath, "/proc/%d/fd/%d/terminal-%d", getpid(), runDirFd, getpid());
  strcpy(address.sun_path, socketPath);
  const int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (server < 0 || bind(server, (struct sockaddr *)&address, sizeof address) != 0 || listen(server, 1) != 0) return -1;
  return server;
}

static int receiveTerminal(int server) {
  const int peer = accept4(server, NULL, NULL, SOCK_CLOEXEC);
  if (peer < 0) return -1;
  char name[256], space[CMSG_SPACE(sizeof(int))];
  struct iovec part = {name, sizeof name};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
  int terminal = -1;
  if (recvmsg(peer, &message, MSG_CMSG_CLOEXEC) > 0) {
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
      memcpy(&terminal, CMSG_DATA(header), sizeof terminal);
  }
  close(peer);
  return terminal;
}

/**
 * Gives the terminal to the user of the command, as login and sshd do, so the command can open /dev/stdout again.
 * Returns the terminal's inner side. While that is open here, a reader of the terminal does not find its end.
 */
static int prepareTerminal(int terminal, uid_t uid, gid_t gid, struct size size) {
  const int inner = ioctl(terminal, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (inner < 0 || fchown(inner, uid, gid) != 0 || fchmod(inner, 0620) != 0) return -1;
  if (setSize(terminal, size) != 0 || fcntl(terminal, F_SETFL, O_NONBLOCK) != 0) return -1;
  return inner;
}

/** The wrapper waits for a line on `go`: then the terminal has its owner and its size (wrapper.ts). */
static pid_t startRuntime(char **args, int go, const sigset_t *signals) {
  const pid_t child = fork();
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_DFL);
  sigprocmask(SIG_SETMASK, signals, NULL);
  for (char **word = args; *word != NULL; word++)
    if (strcmp(*word, terminalSocketWord) == 0) *word = socketPath;
  const int none = open("/dev/null", O_RDWR);
  if (none >= 0 && dup2(none, 0) == 0 && dup2(none, 1) == 1 && dup2(go, goFd) == goFd) execv(args[0], args);
  _exit(127);
}

/** Moves as many bytes as it can without waiting. */
static void move(struct flow *flow) {
  if (flow->at == flow->end && flow->from >= 0) {
    const ssize_t got = read(flow->from, flow->bytes, sizeof flow->bytes);
    if (got > 0) flow->at = 0, flow->end = got;
    // If no process in the box has the terminal open, read fails with EIO. A pipe without a writer returns 0.
    else if (got == 0 || (errno != EAGAIN && errno != EINTR)) flow->from = -1;
  }
  if (flow->at == flow->end) return;
  // Without a reader the bytes are discarded, so that the program in the terminal can continue to its end.
  const ssize_t put = flow->to < 0 ? (ssize_t)(flow->end - flow->at)
                                   : write(flow->to, flow->bytes + flow->at, flow->end - flow->at);
  if (put > 0) flow->at += put;
  else if (put < 0 && errno != EAGAIN && errno != EINTR) flow->to = -1;
}

/** The poll event that this flow needs at its reading or writing end; 0 for none. */
static short wishOf(const struct flow *flow, int isReadingEnd) {
  const int isEmpty = flow->at == flow->end;
  if (isReadingEnd) return isEmpty && flow->from >= 0 ? POLLIN : 0;
  return !isEmpty && flow->to >= 0 ? POLLOUT : 0;
}

static void reap(int signals) {
  struct signalfd_siginfo info;
  while (read(signals, &info, sizeof info) == (ssize_t)sizeof info) {}
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    if (pid != runtime) {
      isLeaderUp = 0; // This is the command. When the runtime ended, it became our child.
      tell(terminalExited, code);
      continue;
    }
    runtime = 0;
    if (code != 0) tell(terminalFailed, code), leave(1);
  }
}

/** Reads new sizes from the worker. If that connection ends, the worker has ended. */
static void followSizes(int terminal) {
  struct size size;
  const ssize_t got = recv(lineFd, &size, sizeof size, MSG_DONTWAIT);
  if (got == (ssize_t)sizeof size) setSize(terminal, size);
  else if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) leave(0);
}

/**
 * Copies until the command has ended, no process in the box has the terminal open, and the worker has all output or has
 * closed its pipe.
 */
static void copy(int terminal, int inner, int signals) {
  struct flow *in = &input, *out = &output;
  *in = (struct flow){.from = 0, .to = terminal};
  *out = (struct flow){.from = terminal, .to = 1};
  while (isLeaderUp || (out->to >= 0 && (out->from >= 0 || out->at < out->end))) {
    const short wish = wishOf(out, 1) | (out->from < 0 ? 0 : wishOf(in, 0));
    struct pollfd watched[] = {
        {signals, POLLIN, 0},
        {lineFd, POLLIN, 0},
        {wishOf(in, 1) ? in->from : -1, POLLIN, 0},
        {wish ? terminal : -1, wish, 0}, // Without a wish, poll would report its end again and again.
        {out->to, wishOf(out, 0), 0},
    };
    if (poll(watched, sizeof watched / sizeof *watched, -1) < 0) continue;
    if (watched[0].revents != 0) reap(signals);
    if (watched[1].revents != 0) followSizes(terminal);
    if (watched[4].revents & (POLLERR | POLLNVAL)) out->to = -1;
    // The runtime has ended, so the command has opened the terminal by now.
    if (runtime == 0 && inner >= 0) close(inner), inner = -1;
    move(in);
    move(out);
  }
}

/** Arguments: rows, columns, the owner's uid and gid on the host, then the command line of the runtime. */
int serveTerminal(int count, char **args) {
  if (count < 5) return 2;
  const struct size size = {(uint16_t)atoi(args[0]), (uint16_t)atoi(args[1])};
  const uid_t uid = (uid_t)strtoul(args[2], NULL, 10);
  const gid_t gid = (gid_t)strtoul(args[3], NULL, 10);
  sigset_t ends, before;
  sigemptyset(&ends);
  sigaddset(&ends, SIGCHLD);
  sigprocmask(SIG_BLOCK, &ends, &before);
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  for (int fd = 0; fd <= 1; fd++) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  for (int fd = lineFd; fd <= runDirFd; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);
  int go[2]; // for startRuntime
  const int signals = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
  const int server = listenForTerminal();
  if (signals < 0 || server < 0 || pipe2(go, O_CLOEXEC) != 0) return 1;
  runtime = startRuntime(args + 4, go[0], &before);
  if (runtime < 0) leave(1);
  close(joinFd);
  close(reportFd);
  close(go[0]);
  int terminal = -1;
  while (runtime > 0 && terminal < 0) {
    struct pollfd watched[] = {{signals, POLLIN, 0}, {server, POLLIN, 0}, {lineFd, 0, 0}};
    if (poll(watched, 3, -1) < 0) continue;
    if (watched[1].revents != 0) terminal = receiveTerminal(server);
    else if (watched[0].revents != 0) reap(signals);
    if (watched[2].revents != 0) break; // The worker has ended. The runtime is killed when this process ends.
  }
  const int inner = terminal < 0 ? -1 : prepareTerminal(terminal, uid, gid, size);
  if (inner < 0) leave(1);
  unlink(socketPath);
  close(server);
  (void)!write(go[1], "\n", 1);
  close(go[1]);
  copy(terminal, inner, signals);
  return 0;
}
