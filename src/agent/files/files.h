// What the C files of this folder share. The program runs one operation on files of the box, for one request, as the
// user of that request, and ends. It is an ordinary process of the box, so the kernel keeps every path inside the box.
// Paths arrive as arguments in hexadecimal digits, because a name may have any byte. The answer goes to stdout. A line
// on stderr that begins with `!` and a number of errno is the error; lines with `~` and `-` are warnings.
#ifndef BOXRUN_FILES_H
#define BOXRUN_FILES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

enum {
  pathBytesMax = 1 << 16, // of a path below the given one; the kernel takes at most 4,096 bytes at once
  blockBytes = 1 << 17,
  pipeBytes = 1 << 20,
  depthMax = 512, // directories below each other, with one descriptor each
  warningsMax = 20,
  exitFailed = 1,
  exitLeft = 3, // the client has left before it said that everything was sent
};

// files.c
/** Adds bytes to the answer. */
void put(const void *bytes, size_t count);
/** Sends what was put. */
void flushAnswer(void);
/** Reports the error and ends. `path` may be NULL. */
void failWith(int code, const char *path, const char *why) __attribute__((noreturn));
/** The same with the text of errno. */
void failPath(const char *path) __attribute__((noreturn));
/** Reports that a file changed while it was read. */
void warnChanged(const char *path, const char *why);
/** Reports that a file is missing in the answer. */
void warnLeftOut(const char *path, const char *why);
/** The next bytes of the input, at most `count`. 0: the client has said that it has sent everything. */
size_t takeSome(void *bytes, size_t count);
/** The descriptor of the input, to wait for its end. */
int inputOf(void);
/** Called before the program ends because the client has left, or because of an error. NULL: nothing to tidy. */
extern void (*tidyUp)(void);
/** Returns the target of a link, or an empty text. The next call overwrites it. */
const char *linkTarget(int directory, const char *name);
/** Reads seconds since 1970, with a fraction: `-1.25`. */
struct timespec timeOf(const char *text);
/** Appends `/name` to a path of pathBytesMax bytes. Returns its length before, or -1 if it becomes too long. */
ssize_t appendName(char *path, const char *name);

// write.c
/** A new file that has no name yet, or a temporary one beside its place. */
struct part {
  int directory; // of its place
  int fd;
  char name[48]; // empty: it has none
};
/** Makes a file that will get a place in this directory. Returns 0 on failure, with errno. */
int openPart(struct part *part, int directory);
/** Gives the file its name, in one step. Returns 0 on failure, with errno; then the part is still there. */
int placePart(struct part *part, const char *name);
/**
 * Writes the content into a file that must stay the same file, and closes that one. `to` -1: it could not be opened.
 */
void copyPart(const struct part *part, int to, const char *path);
/** Removes the file if it has no place. */
void dropPart(struct part *part);
/** Writes everything. Returns 0 on failure, with errno. */
int writeAll(int fd, const char *bytes, size_t count);
void writeFile(char **args);

// pack.c
void packTree(char **args);
// unpack.c
void unpackTree(char **args);
// watch.c
void watchTree(char **args);

#endif
