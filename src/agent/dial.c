// The way in of a micro-VM: the agent dials the worker, because no worker can connect into the VM. It says a token
// first, because every user in the box can dial. Its token comes from its input, so it is in no list of processes. One
// dial waits at most `dialMs` for the worker's hello; then the next one begins.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>
#include "agent.h"

#ifndef AF_VSOCK
#define AF_VSOCK 40
#endif

enum { dialMs = 500, redialMs = 20, hostCid = 2 };

/** As in linux/vm_sockets.h, which not every C library has. */
struct vsockAddress {
  unsigned short family, reserved;
  unsigned int port, cid;
  unsigned char zero[4];
};

static union {
  struct sockaddr any;
  struct sockaddr_un local;
  struct vsockAddress vsock;
} address;
static socklen_t addressBytes;
static struct watch timer, dialed = {.fd = -1};
static char token[tokenBytesMax];
static uint32_t tokenBytes;

/** The number of a vsock port of the host, or the path of a socket. Returns 0 if it is neither. */
static int readAddress(const char *text) {
  if (*text != '/') {
    address.vsock = (struct vsockAddress){.family = AF_VSOCK, .port = (unsigned)atoi(text), .cid = hostCid};
    addressBytes = sizeof address.vsock;
    return address.vsock.port != 0;
  }
  if (strlen(text) >= sizeof address.local.sun_path) return 0;
  address.local.sun_family = AF_UNIX;
  strcpy(address.local.sun_path, text);
  addressBytes = sizeof address.local;
  return 1;
}

/** Reads one line. Returns 0 if there is none. */
static int readToken(void) {
  while (tokenBytes < tokenBytesMax) {
    const ssize_t got = read(0, token + tokenBytes, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got != 1) return 0;
    if (token[tokenBytes] == '\n') return tokenBytes > 0;
    tokenBytes++;
  }
  return 0;
}

int startDialing(char **args) {
  prctl(PR_SET_DUMPABLE, 0); // Other processes of the box must not read the token here.
  isDialing = 1;
  shellPath = args[2];
  const int groups = open(args[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (groups < 0 || !readAddress(args[0]) || !readToken()) return 1;
  if (groups != groupsFd && dup3(groups, groupsFd, O_CLOEXEC) < 0) return 1;
  const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (nothing < 0) return 1;
  // The command of the engine ends here, and the agent goes on as a child of the first process of the box.
  const pid_t child = fork();
  if (child != 0) return child < 0;
  for (int fd = 0; fd < 3; fd++)
    if (dup2(nothing, fd) < 0) return 1;
  return serve();
}

static void sayToken(int fd) {
  char frame[sizeof(struct header) + tokenBytesMax];
  const struct header header = {(uint32_t)(sizeof header - sizeof header.bytes) + tokenBytes, saysToken, 0};
  memcpy(frame, &header, sizeof header);
  memcpy(frame + sizeof header, token, tokenBytes);
  const ssize_t bytes = (ssize_t)(sizeof header + tokenBytes);
  // A new connection has room for so few bytes.
  if (send(fd, frame, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) == bytes) addPeer(fd);
  else close(fd);
}

static void onDialed(struct watch *watch, uint32_t events) {
  (void)events;
  int code = 0;
  socklen_t size = sizeof code;
  if (getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &code, &size) != 0 || code != 0) {
    closeWatch(watch); // The timer dials again.
    return;
  }
  const int fd = watch->fd;
  setEvents(watch, 0);
  watch->fd = -1;
  sayToken(fd);
}

static void dial(void) {
  closePeers();
  closeWatch(&dialed);
  const int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  if (connect(fd, &address.any, addressBytes) == 0) {
    sayToken(fd);
  } else if (errno == EINPROGRESS) {
    dialed = (struct watch){.fd = fd, .act = onDialed};
    setEvents(&dialed, EPOLLOUT);
  } else {
    close(fd);
  }
}

static void onTimer(struct watch *watch, uint32_t events) {
  (void)events;
  uint64_t count;
  if (read(watch->fd, &count, sizeof count) == (ssize_t)sizeof count) dial();
}

static void setTimer(long firstMs) {
  const struct itimerspec times = {.it_value.tv_nsec = firstMs * 1000000,
                                   .it_interval.tv_nsec = firstMs == 0 ? 0 : dialMs * 1000000L};
  timerfd_settime(timer.fd, 0, &times, NULL);
}

void initDialing(void) {
  timer = (struct watch){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), .act = onTimer};
  if (timer.fd < 0) _exit(1);
  setEvents(&timer, EPOLLIN);
  dial();
  setTimer(dialMs);
}

void dialAgain(void) { setTimer(redialMs); }

void stopDialing(void) { setTimer(0); }
