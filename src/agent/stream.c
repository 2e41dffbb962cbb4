// The output and input of a command, between its pipes (or its terminal) and the worker. Output stays in a ring until
// the worker has acknowledged it. When the ring is full, the agent stops reading, and the program has to wait.
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>
#include "agent.h"

/** Bytes of all rings of the box. */
static size_t ringBytes;
/** Pipes that a process of the box may still write to. */
static unsigned openPipes;
/** Those of released commands. What processes in the background write there is read and dropped. */
static struct watch leftovers[leftoversMax];
static unsigned leftoversTop;

unsigned openPipeCount(void) { return openPipes; }

static int isPipe(const struct stream *stream) { return (stream->command->flags & flagTerminal) == 0; }

/** Makes the ring larger if the bounds allow it. Returns 0 if they do not. */
static int growRing(struct stream *stream) {
  const uint32_t wanted = stream->capacity == 0 ? streamBytesLeast : stream->capacity * 4;
  if (wanted > streamBytesMax) return 0;
  if (stream->capacity > 0 && ringBytes - stream->capacity + wanted > boxBytesMax) return 0;
  char *ring = malloc(wanted);
  if (ring == NULL) return 0;
  for (uint64_t at = stream->acked; at < stream->produced;) {
    const size_t from = at & (stream->capacity - 1), to = at & (wanted - 1);
    size_t count = stream->produced - at;
    if (count > stream->capacity - from) count = stream->capacity - from;
    if (count > wanted - to) count = wanted - to;
    memcpy(ring + to, stream->ring + from, count);
    at += count;
  }
  free(stream->ring);
  ringBytes += wanted - stream->capacity;
  stream->ring = ring;
  stream->capacity = wanted;
  return 1;
}

static void freeRing(struct stream *stream) {
  free(stream->ring);
  ringBytes -= stream->capacity;
  stream->ring = NULL;
  stream->capacity = 0;
}

static void endStream(struct stream *stream) {
  closeWatch(&stream->watch);
  if (isPipe(stream)) openPipes--;
  stream->isEnded = 1;
  queueCommand(stream->command);
}

/** Reads once. Returns 0 if there is nothing to read now, or no room. */
static int readSome(struct stream *stream) {
  if (stream->watch.fd < 0) return 0;
  size_t room = stream->capacity - (stream->produced - stream->acked);
  if (room == 0) {
    if (!growRing(stream)) {
      setEvents(&stream->watch, 0); // acknowledgeStream watches it again.
      return 0;
    }
    room = stream->capacity - (stream->produced - stream->acked);
  }
  const size_t begin = stream->produced & (stream->capacity - 1);
  const size_t straight = room < stream->capacity - begin ? room : stream->capacity - begin;
  const struct iovec parts[] = {{stream->ring + begin, straight}, {stream->ring, room - straight}};
  const ssize_t got = readv(stream->watch.fd, parts, room > straight ? 2 : 1);
  if (got > 0) {
    stream->produced += got;
    queueCommand(stream->command);
    return 1;
  }
  // A pipe without a writer returns 0. A terminal that no process has open fails with EIO.
  if (got == 0 || (errno != EAGAIN && errno != EINTR)) endStream(stream);
  return 0;
}

static void onReadable(struct watch *watch, uint32_t events) {
  (void)events;
  readSome((struct stream *)watch); // `watch` is its first member.
}

void openStream(struct stream *stream, struct command *command, int fd) {
  *stream = (struct stream){.watch = {.fd = fd, .act = onReadable}, .command = command};
  if (isPipe(stream)) openPipes++;
  setEvents(&stream->watch, EPOLLIN);
}

void drainStream(struct stream *stream) {
  while (readSome(stream)) {}
}

uint64_t writtenTo(const struct stream *stream) {
  int waiting = 0;
  if (stream->watch.fd >= 0 && ioctl(stream->watch.fd, FIONREAD, &waiting) != 0) waiting = 0;
  return stream->produced + (uint64_t)waiting;
}

int acknowledgeStream(struct stream *stream, uint64_t offset) {
  if (offset < stream->acked || offset > stream->sent) return 0;
  stream->acked = offset;
  if (offset == stream->produced && ringBytes > boxBytesMax / 2) freeRing(stream);
  if (stream->watch.fd >= 0) setEvents(&stream->watch, EPOLLIN);
  return 1;
}

static void onLeftover(struct watch *watch, uint32_t events) {
  (void)events;
  char dropped[1 << 12];
  const ssize_t got = read(watch->fd, dropped, sizeof dropped);
  if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR))) return;
  closeWatch(watch);
  openPipes--;
}

/**
 * Goes on to read the pipe of a released command. A process in the background that has it would be killed by SIGPIPE
 * otherwise. Returns 0 if there are too many such pipes.
 */
static int keepReading(struct stream *stream) {
  unsigned at = 0;
  while (at < leftoversTop && leftovers[at].fd >= 0) at++;
  if (at == leftoversMax) return 0;
  if (at == leftoversTop) leftoversTop++;
  const int fd = stream->watch.fd;
  setEvents(&stream->watch, 0);
  stream->watch.fd = -1;
  leftovers[at] = (struct watch){.fd = fd, .act = onLeftover};
  setEvents(&leftovers[at], EPOLLIN);
  return 1;
}

void closeStream(struct stream *stream) {
  if (stream->watch.fd >= 0 && isPipe(stream) && !keepReading(stream)) openPipes--;
  closeWatch(&stream->watch);
  freeRing(stream);
  stream->sent = stream->produced = stream->acked; // The bytes are gone, so nothing may say them any more.
}

/** Bytes are lost when the program reads no more; the worker learns it from `saysRoom`. */
static void breakInput(struct input *input) {
  closeWatch(&input->watch);
  input->consumed += input->to - input->from;
  input->from = input->to = 0;
  queueCommand(input->command);
}

/** Writes what the program takes now. */
static void writeInput(struct input *input) {
  while (input->watch.fd >= 0 && input->from < input->to) {
    const ssize_t put = write(input->watch.fd, input->bytes + input->from, input->to - input->from);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN) break;
    if (put < 0) {
      breakInput(input);
      return;
    }
    input->from += put;
    input->consumed += put;
    queueCommand(input->command);
  }
  if (input->from == input->to) input->from = input->to = 0;
  if (input->watch.fd < 0) return;
  const int isTerminal = input->command->flags & flagTerminal;
  // The end of the input ends a pipe, but not a terminal.
  if (input->to == 0 && input->isEnding && !isTerminal) closeWatch(&input->watch);
  else setEvents(&input->watch, input->to > 0 ? EPOLLOUT : 0);
}

static void onWritable(struct watch *watch, uint32_t events) {
  (void)events;
  writeInput((struct input *)watch); // `watch` is its first member.
}

void openInput(struct input *input, struct command *command, int fd) {
  *input = (struct input){.watch = {.fd = fd, .act = onWritable}, .command = command};
}

int putInput(struct input *input, const char *bytes, size_t count) {
  if (count > inputBytesMax - (size_t)(input->to - input->from)) return 0;
  if (input->watch.fd < 0) {
    input->consumed += count;
    queueCommand(input->command);
    return 1;
  }
  if (input->bytes == NULL && (input->bytes = malloc(inputBytesMax)) == NULL) return 0;
  if (count > inputBytesMax - input->to) {
    memmove(input->bytes, input->bytes + input->from, input->to - input->from);
    input->to -= input->from;
    input->from = 0;
  }
  memcpy(input->bytes + input->to, bytes, count);
  input->to += count;
  writeInput(input);
  return 1;
}

void endInput(struct input *input) {
  input->isEnding = 1;
  writeInput(input);
}

void closeInput(struct input *input) {
  closeWatch(&input->watch);
  free(input->bytes);
  input->bytes = NULL;
}
