// What the C files of the agent share: the inherited descriptors, the frames (frames.ts has the same), the bounds, and
// the records of commands and their streams. agent.c is the main loop, line.c the connection to the worker, command.c
// the life of a command, stream.c its output and input, start.c runs in the processes that become commands. There are
// two ways in: in a container the worker connects (launch.c), in a micro-VM the agent dials the worker (dial.c).
#ifndef BOXRUN_AGENT_H
#define BOXRUN_AGENT_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// The agent inherits: cgroup.procs of its own control group, a listening socket for workers, and the directory of the
// commands' control groups. This directory is the top of a mount that no other process sees, so no ".." leads out.
enum { joinFd = 3, listenFd = 4, groupsFd = 5 };

// Bounds. streamBytesMax is what the agent keeps of one stream until the worker has acknowledged it; at that bound the
// program has to wait. boxBytesMax is the same for all streams together. Each stream may always have streamBytesLeast.
enum {
  frameBytesMax = 1 << 20,
  pieceBytesMax = 1 << 16,
  commandsMax = 4096,
  leftoversMax = 256,
  groupsMax = 1024,
  wordsMax = 1 << 16,
  nameBytesMax = 64,
  tokenBytesMax = 128,
  lingeringMax = 256,
  streamBytesLeast = 1 << 14,
  streamBytesMax = 1 << 20,
  boxBytesMax = 1 << 24,
  inputBytesMax = 1 << 16,
  stackBytes = 1 << 16,
};

/** Version of the frames and descriptors; frames.ts has the same. */
#define AGENT_VERSION 1

/** Frames from the worker. */
enum {
  kindHello = 1,
  kindRun = 2,
  kindSignal = 3,
  kindInput = 4,
  kindInputEnd = 5,
  kindResize = 6,
  kindAcknowledge = 7,
  kindForget = 8,
  kindPing = 9,
  kindLeave = 10,
};
/** Frames to the worker. */
enum {
  saysHello = 1,
  saysKnown = 2,
  saysStarted = 3,
  saysFailed = 4,
  saysOutput = 5,
  saysEnd = 6,
  saysExited = 7,
  saysRoom = 8,
  saysPong = 9,
  saysToken = 10, // the first frame of an agent that dials
};
/**
 * Of a command. flagInputEnded is only said, of a command that the worker may not know. flagUsage: the worker wants to
 * know what the command used. Workers of earlier versions do not set it.
 */
enum { flagOwnDirectory = 1, flagTerminal = 2, flagInput = 4, flagInputEnded = 8, flagUsage = 16 };
/** The step in which a start failed. */
enum { stageFork = 1, stageJoin = 2, stageStreams = 3, stageIds = 4, stageFrame = 5, stageKilled = 6 };

struct header {
  uint32_t bytes; // after this number
  uint32_t kind;
  uint32_t id;
};

/** A descriptor in the main loop. `act` is called with the events of epoll. */
struct watch {
  int fd; // -1: closed
  uint32_t events; // 0: not watched
  void (*act)(struct watch *watch, uint32_t events);
};

struct command;

/** One output of a command. Offsets count all its bytes from the begin: acked <= sent <= produced. */
struct stream {
  struct watch watch;
  struct command *command;
  char *ring; // the bytes from acked to produced; the byte at offset o is ring[o % capacity]
  uint32_t capacity; // a power of two, or 0
  uint64_t acked, sent, produced;
  uint8_t isEnded, isEndSaid;
};

/** The input of a command: bytes from the worker that the program has not read yet. */
struct input {
  struct watch watch;
  struct command *command;
  char *bytes;
  uint32_t from, to;
  uint64_t consumed, consumedSaid;
  uint8_t isEnding; // no more bytes will come
};

/** Written by the processes that start a command, in memory that they share with the agent. */
struct birth {
  pid_t leader; // 0: it does not exist yet
  uint32_t failedStage;
  int32_t failedErrno;
};

struct command {
  uint32_t id; // 0: the slot is free
  uint32_t flags;
  char name[nameBytesMax];
  char group[nameBytesMax]; // its control group; empty: the worker owns the group
  struct birth *birth;
  pid_t helper; // 0: it is reaped
  int32_t status; // the leader's exit code, as a shell reports it
  // What the leader used, with its children that it has waited for. The peak is that of the largest process, in KiB.
  uint64_t cpuMicroseconds;
  uint32_t peakKib;
  uint32_t memoryKills; // processes that the kernel killed meanwhile for lack of memory; UINT32_MAX: not known
  uint8_t isReaped, isStarted, isFailed, isExited;
  uint8_t isKnownSaid, isStartedSaid, isFailedSaid, isExitedSaid, isQueued;
  int terminal; // the outer side of its terminal, for changes of the size; -1: it has none
  int inner; // the inner side, while the command starts; -1
  struct stream outputs[2];
  struct input input;
  uint64_t atExit[2]; // how many bytes of each output were there when the leader ended
  struct command *next; // in the queue of commands that have something to say
};

struct order {
  uint32_t uid, gid, flags, rows, cols, groupCount, argCount, envCount;
  const uint32_t *groups;
  char *name, *cgroup, *enter, *directory;
  char **args; // the last one is NULL; there is room for two words before it
  char **env;
  int streams[3]; // what the command gets as 0, 1 and 2; -1: what the agent has
};

/** The signal mask that the agent had at its start. Commands start with it. */
extern sigset_t signalsBefore;
extern int isLeaving;
/** True in a micro-VM. There the agent makes the control groups of commands, and removes them. */
extern int isDialing;
/** Runs scripts that have no `#!`. */
extern const char *shellPath;

// agent.c
/** Changes the events of a descriptor in the main loop. 0: it is not watched. */
void setEvents(struct watch *watch, uint32_t events);
void closeWatch(struct watch *watch);
/** Runs the main loop until the agent leaves. */
int serve(void);

// line.c
/** Listens for workers at listenFd. */
void listenForWorkers(void);
void initLine(void);
/** A worker is behind this connection. It has to say hello. */
void addPeer(int fd);
/** Closes connections that have not said hello. */
void closePeers(void);
/** Sends what the commands have to say, as far as the worker takes it. */
void flushLine(void);
/** True when the worker has everything that the commands had to say. */
int isLineFlushed(void);

// command.c
void initCommands(void);
struct command *findCommand(uint32_t id);
unsigned commandCount(void);
unsigned runningCount(void);
void runCommand(uint32_t id, char *at, char *end);
void signalCommand(struct command *command, int number);
void resizeCommand(struct command *command, uint32_t rows, uint32_t cols);
/** Releases an ended command. Returns 0 if it has not ended. */
int forgetCommand(struct command *command);
void reapChildren(void);
/** Puts the command into the queue of those that have something to say. */
void queueCommand(struct command *command);
struct command *nextQueued(void);
/** Everything that was said before is said again, because the worker is another one. */
void sayAllAgain(void);

// stream.c
void openStream(struct stream *stream, struct command *command, int fd);
void openInput(struct input *input, struct command *command, int fd);
void drainStream(struct stream *stream);
/** Bytes that the program has written in all, also those that the agent has not read yet. */
uint64_t writtenTo(const struct stream *stream);
/** Returns 0 for an offset that cannot be true. */
int acknowledgeStream(struct stream *stream, uint64_t offset);
void closeStream(struct stream *stream);
/** How many pipes of commands a process of the box may still write to. */
unsigned openPipeCount(void);
/** Returns 0 if the worker sent more than there was room for. */
int putInput(struct input *input, const char *bytes, size_t count);
void endInput(struct input *input);
void closeInput(struct input *input);

// start.c
/** In a process of its own: starts the command and ends. */
void startCommand(struct order *order, struct birth *birth) __attribute__((noreturn));

// launch.c
int launch(char **args);

// files/files.c
/** Runs one operation on files of the box, and returns the exit code. */
int serveFiles(int count, char **args);

// dial.c
/** Reads the token from the input, and stays as a process of its own that dials the worker. */
int startDialing(char **args);
/** The first dial. */
void initDialing(void);
/** Dials until a worker says hello. */
void dialAgain(void);
void stopDialing(void);

// connect.c
/** A command of its own: connects to an address of the box. Arguments: `localhost` or an address, and the port. */
int connectPort(char **args);

#endif
