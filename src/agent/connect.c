// A command of its own: connects to a TCP port from inside the box, and carries bytes between the connection and its
// input and output. The first byte of the output is 0 when the connection stands, else the errno. Each direction ends
// by itself: the end of the input ends what the connection sends, and the end of the connection closes the output. A
// clean end of the connection is announced by one byte on stderr. Without it, the connection broke.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "agent.h"

// Older headers lack it. It leaves the choice of the local port to connect().
enum { bindWithoutPort = 24, halfBytes = 1 << 16 };

/** One direction: bytes that were read and are not written yet. */
struct half {
  int from, to; // to -1: this direction has ended
  size_t start, end;
  int hasEnded; // `from` has no more bytes
  char bytes[halfBytes];
};

/**
 * Connects to an address of this box, or returns -1. The connection is bound to the same address first, and the kernel
 * refuses that for an address that the box does not have. So no other machine can be reached.
 */
static int connectTo(const char *host, int port) {
  struct sockaddr_in v4 = {.sin_family = AF_INET};
  struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
  const int isV4 = inet_pton(AF_INET, host, &v4.sin_addr) == 1;
  if (!isV4 && inet_pton(AF_INET6, host, &v6.sin6_addr) != 1) {
    errno = EINVAL;
    return -1;
  }
  struct sockaddr *address = isV4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
  const socklen_t bytes = isV4 ? sizeof v4 : sizeof v6;
  const int one = 1;
  const int fd = socket(isV4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  setsockopt(fd, IPPROTO_IP, bindWithoutPort, &one, sizeof one);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  int isConnected = bind(fd, address, bytes) == 0;
  v4.sin_port = v6.sin6_port = htons((uint16_t)port);
  isConnected = isConnected && connect(fd, address, bytes) == 0;
  if (isConnected) return fd;
  const int failure = errno;
  close(fd);
  errno = failure;
  return -1;
}

/** Many development servers listen on one of the two loopback addresses only. */
static int connectToLoopback(int port) {
  const int fd = connectTo("127.0.0.1", port);
  if (fd >= 0 || errno != ECONNREFUSED) return fd;
  const int second = connectTo("::1", port);
  if (second < 0) errno = ECONNREFUSED; // A box without IPv6 fails in other ways.
  return second;
}

static int wouldBlock(void) {
  return errno == EAGAIN || errno == EINTR;
}

/** Moves what can be moved at once. Returns 0 if the direction broke. */
static int move(struct half *half, int canRead, int canWrite) {
  if (canRead && half->start == half->end && !half->hasEnded) {
    const ssize_t got = read(half->from, half->bytes, sizeof half->bytes);
    if (got < 0 && !wouldBlock()) return 0;
    if (got == 0) half->hasEnded = 1;
    if (got > 0) {
      half->start = 0;
      half->end = (size_t)got;
      canWrite = 1;
    }
  }
  if (canWrite && half->start < half->end) {
    const ssize_t put = write(half->to, half->bytes + half->start, half->end - half->start);
    if (put < 0 && !wouldBlock()) return 0;
    if (put > 0) half->start += (size_t)put;
  }
  return 1;
}

static int isDone(const struct half *half) {
  return half->hasEnded && half->start == half->end;
}

/** The events for which a direction waits, of its two descriptors. */
static void await(const struct half *half, struct pollfd *from, struct pollfd *to) {
  if (half->to < 0) return;
  if (half->start < half->end) to->events |= POLLOUT;
  else if (!half->hasEnded) from->events |= POLLIN;
}

/** Returns when both directions have ended, or one broke. */
static int carry(int fd) {
  static struct half in, out;
  int isBroken = 0;
  in.from = 0, in.to = fd, out.from = fd, out.to = 1;
  for (int at = 0; at < 3; at++) {
    const int each = at == 2 ? fd : at;
    fcntl(each, F_SETFL, fcntl(each, F_GETFL) | O_NONBLOCK);
  }
  while (in.to >= 0 || out.to >= 0) {
    // A descriptor of -1 is not watched. The connection is always watched: its errors end the command.
    struct pollfd watched[] = {{.fd = -1}, {.fd = -1}, {.fd = fd}};
    await(&in, &watched[0], &watched[2]);
    await(&out, &watched[2], &watched[1]);
    if (watched[0].events != 0) watched[0].fd = 0;
    if (out.to >= 0) watched[1].fd = 1; // Also without events: poll says when the reader of the output is gone.
    if (poll(watched, 3, -1) < 0 && errno != EINTR) return 1;
    const short stands = watched[2].revents;
    if (watched[1].revents & POLLERR) return 1;
    // When this side has nothing more to read, an error of the connection shows in no read.
    if (out.to < 0 && stands & (POLLERR | POLLHUP)) return 1;
    if (in.to >= 0 && !move(&in, watched[0].revents != 0, stands & (POLLOUT | POLLERR))) {
      // A server may answer and close before it has read everything. Its answer still counts.
      isBroken = 1;
      in.to = -1;
    }
    if (out.to >= 0 && !move(&out, stands & (POLLIN | POLLERR | POLLHUP), watched[1].revents & POLLOUT)) return 1;
    if (in.to >= 0 && isDone(&in)) {
      shutdown(fd, SHUT_WR);
      in.to = -1;
    }
    if (out.to >= 0 && isDone(&out)) {
      if (isBroken || write(2, "e", 1) != 1) return 1;
      close(1);
      out.to = -1;
    }
  }
  return 0;
}

int connectPort(char **args) {
  signal(SIGPIPE, SIG_IGN);
  const char *host = args[0];
  const int port = atoi(args[1]);
  const int fd = strcmp(host, "localhost") == 0 ? connectToLoopback(port) : connectTo(host, port);
  const unsigned char answer = fd >= 0 ? 0 : (unsigned char)errno;
  if (write(1, &answer, 1) != 1 || fd < 0) return 1;
  return carry(fd);
}
