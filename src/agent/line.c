// The connection to the worker: it hears workers, obeys the one with the highest generation, and sends what the
// commands have to say. A frame that breaks the format ends the connection, and the commands go on without it.
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "agent.h"

enum { peersMax = 4, outBytes = 1 << 18, helloBytes = sizeof(struct header) + 3 * sizeof(uint32_t) };

/** A connection that has not said hello yet. */
struct peer {
  struct watch watch;
  size_t bytes;
  char in[helloBytes];
};

static struct watch listener, line = {.fd = -1};
static struct peer peers[peersMax];
static unsigned nextPeer;
/** The generation of the worker's lease. A worker with a lower one is refused. */
static uint64_t generation;
static char in[sizeof(uint32_t) + frameBytesMax];
static size_t inBytes;
static char out[outBytes];
static size_t outFrom, outTo;
static uint32_t pongId; // 0: no ping waits for its answer

static void closeLine(void) {
  closeWatch(&line);
  if (isDialing) dialAgain();
  inBytes = outFrom = outTo = 0;
  pongId = 0;
}

/** Adds a frame with these words and bytes. Returns 0 if there is no room now. */
static int say(uint32_t kind, uint32_t id, const uint32_t *words, size_t wordCount, size_t bytes, char **place) {
  const size_t body = wordCount * sizeof(uint32_t) + bytes;
  const struct header header = {(uint32_t)(sizeof header - sizeof header.bytes + body), kind, id};
  if (sizeof out - outTo < sizeof header + body) return 0;
  memcpy(out + outTo, &header, sizeof header);
  if (wordCount > 0) memcpy(out + outTo + sizeof header, words, wordCount * sizeof(uint32_t));
  if (place != NULL) *place = out + outTo + sizeof header + wordCount * sizeof(uint32_t);
  outTo += sizeof header + body;
  return 1;
}

#define low(number) ((uint32_t)(number))
#define high(number) ((uint32_t)((number) >> 32))

/** Says a piece of output. Returns 0 if there is no room now. */
static int sayPiece(struct stream *stream, unsigned which) {
  size_t count = stream->produced - stream->sent;
  const size_t begin = stream->sent & (stream->capacity - 1);
  if (count > pieceBytesMax) count = pieceBytesMax;
  if (count > stream->capacity - begin) count = stream->capacity - begin; // The rest is at the front of the ring.
  const uint32_t words[] = {which, low(stream->sent), high(stream->sent)};
  char *place;
  if (!say(saysOutput, stream->command->id, words, 3, count, &place)) return 0;
  memcpy(place, stream->ring + begin, count);
  stream->sent += count;
  return 1;
}

static int sayKnown(struct command *command) {
  const struct stream *first = &command->outputs[0], *second = &command->outputs[1];
  const struct input *input = &command->input;
  const uint64_t consumed = input->consumed, received = consumed + (input->to - input->from);
  const uint32_t words[] = {command->flags | (input->isEnding ? flagInputEnded : 0),
                            low(first->acked),   high(first->acked), low(second->acked), high(second->acked),
                            low(consumed),       high(consumed),     low(received),      high(received)};
  const size_t bytes = strlen(command->name);
  char *place;
  if (!say(saysKnown, command->id, words, sizeof words / sizeof *words, bytes, &place)) return 0;
  memcpy(place, command->name, bytes);
  command->isKnownSaid = 1;
  return 1;
}

enum answer { saidAll, saidSome, noRoom };

/** Says what is new of the command: at most one piece of each output, so that others get their turn. */
static enum answer sayNews(struct command *command) {
  if (!command->isKnownSaid && !sayKnown(command)) return noRoom;
  if (command->isStarted && !command->isStartedSaid) {
    if (!say(saysStarted, command->id, NULL, 0, 0, NULL)) return noRoom;
    command->isStartedSaid = 1;
  }
  if (command->isFailed && !command->isFailedSaid) {
    const uint32_t words[] = {command->birth->failedStage, (uint32_t)command->birth->failedErrno};
    if (!say(saysFailed, command->id, words, 2, 0, NULL)) return noRoom;
    command->isFailedSaid = 1;
  }
  int isMore = 0;
  for (unsigned which = 0; which < 2; which++) {
    struct stream *stream = &command->outputs[which];
    if (stream->sent < stream->produced && !sayPiece(stream, which)) return noRoom;
    if (stream->sent < stream->produced) isMore = 1;
    else if (stream->isEnded && !stream->isEndSaid) {
      const uint32_t words[] = {which, low(stream->produced), high(stream->produced)};
      if (!say(saysEnd, command->id, words, 3, 0, NULL)) return noRoom;
      stream->isEndSaid = 1;
    }
  }
  struct input *input = &command->input;
  if (input->consumedSaid < input->consumed) {
    const uint32_t words[] = {low(input->consumed), high(input->consumed), input->watch.fd < 0};
    if (!say(saysRoom, command->id, words, 3, 0, NULL)) return noRoom;
    input->consumedSaid = input->consumed;
  }
  if (command->isExited && !command->isExitedSaid) {
    const uint64_t *atExit = command->atExit;
    const uint32_t words[] = {(uint32_t)command->status,     low(atExit[0]),
                              high(atExit[0]),               low(atExit[1]),
                              high(atExit[1]),               low(command->cpuMicroseconds),
                              high(command->cpuMicroseconds), command->peakKib,
                              command->memoryKills};
    const size_t count = command->flags & flagUsage ? 8 + (size_t)isDialing : 5;
    if (!say(saysExited, command->id, words, count, 0, NULL)) return noRoom;
    command->isExitedSaid = 1;
  }
  return isMore ? saidSome : saidAll;
}

/** Fills the buffer with news, a command after the other. */
static void fillOut(void) {
  if (pongId != 0 && say(saysPong, pongId, NULL, 0, 0, NULL)) pongId = 0;
  // A command that has more to say, or for which there is no room, waits at the end of the queue.
  for (struct command *command; (command = nextQueued()) != NULL;) {
    const enum answer answer = sayNews(command);
    if (answer != saidAll) queueCommand(command);
    if (answer == noRoom) break;
  }
}

void flushLine(void) {
  if (line.fd < 0) return;
  for (;;) {
    if (outFrom == outTo) {
      outFrom = outTo = 0;
      fillOut();
      if (outTo == 0) break;
    }
    const ssize_t sent = send(line.fd, out + outFrom, outTo - outFrom, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) {
      setEvents(&line, EPOLLIN | EPOLLOUT);
      return;
    }
    if (sent < 0) {
      closeLine();
      return;
    }
    outFrom += sent;
  }
  setEvents(&line, EPOLLIN);
}

int isLineFlushed(void) {
  // Without a worker nobody takes the news, and the box is ended all the same.
  return line.fd < 0 || outFrom == outTo;
}

static uint64_t wordPair(const char *at) {
  uint32_t words[2];
  memcpy(words, at, sizeof words);
  return words[0] | (uint64_t)words[1] << 32;
}

/** Obeys one frame. Returns 0 if no worker sends such a frame. */
static int obey(const struct header *header, char *at, char *end) {
  const size_t bytes = end - at;
  uint32_t words[3] = {0};
  memcpy(words, at, bytes < sizeof words ? bytes : sizeof words);
  if (header->id == 0) return 0;
  if (header->kind == kindRun) {
    if (findCommand(header->id) != NULL) return 0;
    runCommand(header->id, at, end);
    return 1;
  }
  if (header->kind == kindPing) {
    pongId = header->id;
    return bytes == 0;
  }
  if (header->kind == kindLeave) {
    isLeaving = 1;
    return bytes == 0;
  }
  struct command *command = findCommand(header->id);
  if (command == NULL) return 0;
  switch (header->kind) {
    case kindSignal:
      signalCommand(command, (int)words[0]);
      return bytes == sizeof *words;
    case kindInput:
      return putInput(&command->input, at, bytes);
    case kindInputEnd:
      endInput(&command->input);
      return bytes == 0;
    case kindResize:
      resizeCommand(command, words[0], words[1]);
      return bytes == 2 * sizeof *words;
    case kindAcknowledge:
      if (bytes != 3 * sizeof *words || words[0] > 1) return 0;
      return acknowledgeStream(&command->outputs[words[0]], wordPair(at + sizeof *words));
    case kindForget:
      return bytes == 0 && forgetCommand(command);
  }
  return 0;
}

/** Obeys all complete frames, and moves the rest to the front of the buffer. */
static void onLine(struct watch *watch, uint32_t events) {
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return; // flushLine follows.
  const ssize_t got = recv(watch->fd, in + inBytes, sizeof in - inBytes, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    closeLine();
    return;
  }
  inBytes += got;
  size_t from = 0;
  for (;;) {
    struct header header;
    if (inBytes - from < sizeof header) break;
    memcpy(&header, in + from, sizeof header);
    const size_t bytes = sizeof header.bytes + (size_t)header.bytes;
    if (bytes < sizeof header || bytes > sizeof in) {
      closeLine();
      return;
    }
    if (inBytes - from < bytes) break;
    if (!obey(&header, in + from + sizeof header, in + from + bytes)) {
      closeLine();
      return;
    }
    from += bytes;
  }
  memmove(in, in + from, inBytes - from);
  inBytes -= from;
}

/** The worker behind this connection becomes the one that the agent obeys. */
static void takeLine(int fd) {
  closeLine();
  if (isDialing) stopDialing();
  line = (struct watch){.fd = fd, .act = onLine};
  const uint32_t words[] = {AGENT_VERSION, commandCount()};
  say(saysHello, 0, words, 2, 0, NULL);
  sayAllAgain();
  setEvents(&line, EPOLLIN);
}

static void onPeer(struct watch *watch, uint32_t events) {
  (void)events;
  struct peer *peer = (struct peer *)watch; // `watch` is its first member.
  const ssize_t got = recv(watch->fd, peer->in + peer->bytes, sizeof peer->in - peer->bytes, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    closeWatch(watch);
    return;
  }
  peer->bytes += got;
  if (peer->bytes < sizeof(struct header)) return;
  struct header header;
  uint32_t version;
  memcpy(&header, peer->in, sizeof header);
  // The worker does not know the token: it has started another agent meanwhile.
  if (isDialing && header.kind == kindLeave) isLeaving = 1;
  if (peer->bytes < sizeof peer->in) return;
  memcpy(&version, peer->in + sizeof header, sizeof version);
  const uint64_t its = wordPair(peer->in + sizeof header + sizeof version);
  const int isHello = header.kind == kindHello && header.bytes == helloBytes - sizeof header.bytes;
  if (!isHello || version != AGENT_VERSION || its < generation) {
    closeWatch(watch);
    return;
  }
  generation = its;
  setEvents(watch, 0);
  const int fd = watch->fd;
  watch->fd = -1;
  takeLine(fd);
}

void addPeer(int fd) {
  struct peer *peer = &peers[nextPeer++ % peersMax];
  closeWatch(&peer->watch); // The oldest one had its time to say hello.
  *peer = (struct peer){.watch = {.fd = fd, .act = onPeer}};
  setEvents(&peer->watch, EPOLLIN);
}

void closePeers(void) {
  for (unsigned at = 0; at < peersMax; at++) closeWatch(&peers[at].watch);
}

static void onListener(struct watch *watch, uint32_t events) {
  (void)events;
  const int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) addPeer(fd);
}

void initLine(void) {
  for (unsigned at = 0; at < peersMax; at++) peers[at].watch.fd = -1;
}

void listenForWorkers(void) {
  listener = (struct watch){.fd = listenFd, .act = onListener};
  setEvents(&listener, EPOLLIN);
}
