// Operations on files of the box: which one is asked for, and the small ones. See files.h for how they answer.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "../agent.h"
#include "files.h"

void (*tidyUp)(void);
static int inputFd, answerFd, reportFd;
static char answer[blockBytes];
static size_t answerBytes;
static unsigned warnings;

int writeAll(int fd, const char *bytes, size_t count) {
  while (count > 0) {
    const ssize_t done = write(fd, bytes, count);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return 0;
    bytes += done;
    count -= done;
  }
  return 1;
}

static void leave(int code) {
  if (tidyUp != NULL) tidyUp();
  _exit(code);
}

void flushAnswer(void) {
  if (!writeAll(answerFd, answer, answerBytes)) leave(exitLeft);
  answerBytes = 0;
}

void put(const void *bytes, size_t count) {
  while (count > 0) {
    if (answerBytes == sizeof answer) flushAnswer();
    size_t part = sizeof answer - answerBytes;
    if (part > count) part = count;
    memcpy(answer + answerBytes, bytes, part);
    answerBytes += part;
    bytes = (const char *)bytes + part;
    count -= part;
  }
}

/** Prints one line of the report. A name of a file may have line breaks, which become question marks. */
static void report(const char *mark, const char *path, const char *why) {
  char line[8192];
  int length = path == NULL ? snprintf(line, sizeof line - 1, "%s%s", mark, why)
                            : snprintf(line, sizeof line - 1, "%s'%.4000s': %s", mark, path, why);
  if (length > (int)sizeof line - 2) length = sizeof line - 2;
  for (int at = 0; at < length; at++)
    if ((unsigned char)line[at] < ' ') line[at] = '?';
  line[length++] = '\n';
  (void)writeAll(reportFd, line, length);
}

void failWith(int code, const char *path, const char *why) {
  char mark[16];
  snprintf(mark, sizeof mark, "!%d ", code);
  if (tidyUp != NULL) tidyUp();
  report(mark, path, why);
  _exit(exitFailed);
}

void failPath(const char *path) {
  const int code = errno;
  failWith(code, path, strerror(code));
}

static void warn(const char *mark, const char *path, const char *why) {
  warnings++;
  if (warnings <= warningsMax) report(mark, path, why);
  else if (warnings == warningsMax + 1) report(mark, NULL, "more files have such warnings");
}

void warnChanged(const char *path, const char *why) { warn("~", path, why); }

void warnLeftOut(const char *path, const char *why) { warn("-", path, why); }

static size_t readInput(char *bytes, size_t count) {
  for (;;) {
    const ssize_t got = read(inputFd, bytes, count);
    if (got > 0) return got;
    if (got == 0 || errno != EINTR) leave(exitLeft);
  }
}

/** The input comes in blocks: their length, 32 bits, little-endian, then the bytes. A block of length 0 is the end. */
size_t takeSome(void *bytes, size_t count) {
  static uint32_t left;
  static int isEnded;
  if (isEnded) return 0;
  if (left == 0) {
    char *number = (char *)&left;
    for (size_t got = 0; got < sizeof left;) got += readInput(number + got, sizeof left - got);
    if (left == 0) {
      isEnded = 1;
      return 0;
    }
  }
  const size_t got = readInput(bytes, count < left ? count : left);
  left -= got;
  return got;
}

int inputOf(void) { return inputFd; }

const char *linkTarget(int directory, const char *name) {
  static char target[4097];
  const ssize_t length = readlinkat(directory, name, target, sizeof target - 1);
  target[length < 0 ? 0 : length] = '\0';
  return target;
}

ssize_t appendName(char *path, const char *name) {
  const size_t before = strlen(path), more = strlen(name);
  if (before + more + 2 > pathBytesMax) return -1;
  const int isRoot = before > 0 && path[before - 1] == '/';
  if (!isRoot) path[before] = '/';
  memcpy(path + before + !isRoot, name, more + 1);
  return before;
}

struct timespec timeOf(const char *text) {
  struct timespec time = {.tv_sec = (time_t)strtoll(text, NULL, 10)};
  const char *point = strchr(text, '.');
  long fraction = 0, digits = 0;
  for (const char *at = point == NULL ? "" : point + 1; *at >= '0' && *at <= '9' && digits < 9; at++, digits++)
    fraction = fraction * 10 + (*at - '0');
  for (; digits < 9; digits++) fraction *= 10;
  if (*text == '-' && fraction > 0) {
    time.tv_sec -= 1;
    fraction = 1000000000 - fraction;
  }
  time.tv_nsec = fraction;
  return time;
}

/** Returns the text of hexadecimal digits. */
static char *textOf(const char *digits) {
  const size_t length = strlen(digits) / 2;
  char *text = malloc(length + 1);
  if (text == NULL) failWith(ENOMEM, NULL, "out of memory");
  for (size_t at = 0; at < length; at++) {
    const char pair[] = {digits[2 * at], digits[2 * at + 1], '\0'};
    char *end;
    const unsigned long byte = strtoul(pair, &end, 16);
    if (*end != '\0' || byte == 0) failWith(EINVAL, NULL, "the path is no text");
    text[at] = (char)byte;
  }
  text[length] = '\0';
  return text;
}

static char typeOf(mode_t mode) {
  if (S_ISREG(mode)) return 'f';
  if (S_ISDIR(mode)) return 'd';
  if (S_ISLNK(mode)) return 'l';
  if (S_ISFIFO(mode)) return 'p';
  if (S_ISSOCK(mode)) return 's';
  return S_ISCHR(mode) ? 'c' : 'b';
}

/** One file in the answer: numbers, name, target of a link. box-fs.ts reads it. */
static void putEntry(const char *name, const struct stat *file, const char *target) {
  const struct {
    uint32_t bytes, type, mode, uid, gid, links, nanoseconds, nameBytes;
    uint64_t size, blocks;
    int64_t seconds;
  } entry = {
      .bytes = (uint32_t)(sizeof entry - sizeof entry.bytes + strlen(name) + strlen(target)),
      .type = (uint32_t)typeOf(file->st_mode),
      .mode = file->st_mode & 07777,
      .uid = file->st_uid,
      .gid = file->st_gid,
      .links = (uint32_t)file->st_nlink,
      .nanoseconds = (uint32_t)file->st_mtim.tv_nsec,
      .nameBytes = (uint32_t)strlen(name),
      .size = (uint64_t)file->st_size,
      .blocks = (uint64_t)file->st_blocks,
      .seconds = file->st_mtim.tv_sec,
  };
  put(&entry, sizeof entry);
  put(name, strlen(name));
  put(target, strlen(target));
}

/** path, 1 to follow a link at its end */
static void statFile(char **args) {
  struct stat file;
  const char *path = textOf(args[0]);
  if (fstatat(AT_FDCWD, path, &file, *args[1] == '1' ? 0 : AT_SYMLINK_NOFOLLOW) != 0) failPath(path);
  putEntry("", &file, S_ISLNK(file.st_mode) ? linkTarget(AT_FDCWD, path) : "");
}

/** path, the largest number of files in the answer */
static void listFiles(char **args) {
  const char *path = textOf(args[0]);
  unsigned long room = strtoul(args[1], NULL, 10);
  const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *directory = fd < 0 ? NULL : fdopendir(fd);
  if (directory == NULL) {
    struct stat file;
    if (errno == ENOTDIR && stat(path, &file) == 0) failWith(ENOTDIR, path, "it is not a directory");
    if (errno == ENOTDIR) errno = ENOENT;
    failPath(path);
  }
  errno = 0;
  for (struct dirent *found; (found = readdir(directory)) != NULL; errno = 0) {
    struct stat file;
    if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0) continue;
    if (fstatat(fd, found->d_name, &file, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue; // It was removed meanwhile.
      // Without the right to search the directory, only names and types can be known.
      file = (struct stat){.st_mode = DTTOIF(found->d_type)};
    }
    if (room-- == 0) {
      const uint32_t more = 0;
      put(&more, sizeof more);
      return;
    }
    putEntry(found->d_name, &file, S_ISLNK(file.st_mode) ? linkTarget(fd, found->d_name) : "");
  }
  if (errno != 0) failPath(path);
}

/** Sends bytes of a file without reading them into this program. Returns 0 if the kernel cannot do that here. */
static int sendBytes(int fd, const char *path, int64_t *wanted) {
  flushAnswer();
  while (*wanted != 0) {
    const size_t count = *wanted < 0 || *wanted > (1 << 30) ? 1 << 30 : (size_t)*wanted;
    const ssize_t sent = sendfile(answerFd, fd, NULL, count);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EINVAL) return 0;
    if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) leave(exitLeft);
    if (sent < 0) failPath(path);
    if (sent == 0) return 1;
    if (*wanted > 0) *wanted -= sent;
  }
  return 1;
}

/**
 * path, offset (negative: from the end), number of bytes (negative: all), 1 to answer the file and the offset before
 * the bytes. A larger number means: only these two, if there are at least so many bytes.
 */
static void readFile(char **args) {
  const char *path = textOf(args[0]);
  int64_t offset = strtoll(args[1], NULL, 10), wanted = strtoll(args[2], NULL, 10);
  struct stat file;
  // The types are checked before the open: opening a FIFO would wait, and opening a device may act on it.
  if (stat(path, &file) != 0) failPath(path);
  if (S_ISDIR(file.st_mode)) failWith(EISDIR, path, "it is a directory");
  if (!S_ISREG(file.st_mode)) failWith(EINVAL, path, "it is no regular file");
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0 || fstat(fd, &file) != 0) failPath(path);
  if (!S_ISREG(file.st_mode)) failWith(EINVAL, path, "it is no regular file");
  if (offset < 0) offset = file.st_size + offset > 0 ? file.st_size + offset : 0;
  const int64_t describes = strtoll(args[3], NULL, 10);
  if (describes > 0) {
    putEntry("", &file, "");
    put(&offset, sizeof offset);
    int64_t length = file.st_blocks > 0 ? file.st_size - offset : 0;
    if (wanted >= 0 && wanted < length) length = wanted;
    if (describes > 1 && length >= describes) return;
  }
  if (offset > 0 && lseek(fd, offset, SEEK_SET) < 0) failPath(path);
  if (describes == 0 && sendBytes(fd, path, &wanted)) return;
  static char block[blockBytes];
  while (wanted != 0) {
    const size_t count = wanted < 0 || wanted > (int64_t)sizeof block ? sizeof block : (size_t)wanted;
    const ssize_t got = read(fd, block, count);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) failPath(path);
    if (got == 0) break;
    put(block, got);
    if (wanted > 0) wanted -= got;
  }
}

/** Makes the directories of the path, without its last name if `isOfFile`. */
static void makeParents(char *path, mode_t mode, int isOfFile) {
  for (char *at = path; *at != '\0';) {
    while (*at == '/') at++;
    char *end = strchrnul(at, '/');
    const char after = *end;
    if (end == at || (isOfFile && after == '\0')) break;
    *end = '\0';
    if (mkdir(path, mode) != 0) {
      const int code = errno;
      struct stat file;
      if (code != EEXIST && !(stat(path, &file) == 0 && S_ISDIR(file.st_mode))) failWith(code, path, strerror(code));
    }
    *end = after;
    at = end;
  }
}

/** path, mode in octal or empty, 1 to make parents and to accept a directory that exists */
static void makeDirectory(char **args) {
  char *path = textOf(args[0]);
  const int withParents = *args[2] == '1';
  if (withParents) makeParents(path, 0755, 1);
  if (mkdir(path, 0755) != 0) {
    const int code = errno;
    struct stat file;
    if (!withParents || code != EEXIST || stat(path, &file) != 0) failWith(code, path, strerror(code));
    if (!S_ISDIR(file.st_mode)) failWith(ENOTDIR, path, "it is not a directory");
    return;
  }
  if (*args[1] != '\0' && chmod(path, (mode_t)strtoul(args[1], NULL, 8)) != 0) failPath(path);
}

/** from, to, 1 to replace what is there */
static void renameFile(char **args) {
  const char *from = textOf(args[0]), *to = textOf(args[1]);
  enum { noReplace = 1 };
  const unsigned flags = *args[2] == '1' ? 0 : noReplace;
  if (syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags) == 0) return;
  struct stat file;
  // Some file systems do not know the flag. Then there is a moment in which a file that is made meanwhile is replaced.
  if (errno == EINVAL && flags != 0) {
    if (lstat(to, &file) == 0) errno = EEXIST;
    else if (rename(from, to) == 0) return;
  }
  const int code = errno;
  failWith(code, code == ENOENT && lstat(from, &file) != 0 ? from : to, strerror(code));
}

/** Removes what is in the directory. `path` is for messages. */
static void removeBelow(int fd, char *path, unsigned depth) {
  DIR *directory = fdopendir(fd);
  if (directory == NULL) failPath(path);
  if (depth > depthMax) failWith(ENAMETOOLONG, path, "too many directories are below each other");
  for (struct dirent *found; (found = readdir(directory)) != NULL;) {
    if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0) continue;
    const ssize_t before = appendName(path, found->d_name);
    if (before < 0) failWith(ENAMETOOLONG, path, strerror(ENAMETOOLONG));
    if (unlinkat(fd, found->d_name, 0) != 0 && errno != ENOENT) {
      const int code = errno;
      const int below = openat(fd, found->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      if (below < 0) failWith(code == EISDIR || code == EPERM ? errno : code, path, strerror(code == EISDIR ? errno : code));
      removeBelow(below, path, depth + 1);
      if (unlinkat(fd, found->d_name, AT_REMOVEDIR) != 0 && errno != ENOENT) failPath(path);
    }
    path[before] = '\0';
  }
  closedir(directory);
}

/** path, 1 to remove a directory with everything in it */
static void removeFile(char **args) {
  const char *path = textOf(args[0]);
  static char at[pathBytesMax];
  struct stat file;
  if (strlen(path) >= sizeof at) failWith(ENAMETOOLONG, NULL, strerror(ENAMETOOLONG));
  strcpy(at, path);
  if (lstat(path, &file) != 0) failPath(path);
  if (!S_ISDIR(file.st_mode)) {
    if (unlink(path) != 0) failPath(path);
    return;
  }
  if (rmdir(path) == 0) return;
  if (errno != ENOTEMPTY || *args[1] != '1') failPath(path);
  const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) failPath(path);
  removeBelow(fd, at, 0);
  if (rmdir(path) != 0) failPath(path);
}

/** path, mode in octal */
static void changeMode(char **args) {
  const char *path = textOf(args[0]);
  if (chmod(path, (mode_t)strtoul(args[1], NULL, 8)) != 0) failPath(path);
}

/** path, user id or -1, group id or -1, 1 to follow a link at its end */
static void changeOwner(char **args) {
  const char *path = textOf(args[0]);
  const uid_t uid = (uid_t)strtoll(args[1], NULL, 10);
  const gid_t gid = (gid_t)strtoll(args[2], NULL, 10);
  if (fchownat(AT_FDCWD, path, uid, gid, *args[3] == '1' ? 0 : AT_SYMLINK_NOFOLLOW) != 0) failPath(path);
}

static void writeWithParents(char **args) {
  char *path = args[0] = textOf(args[0]);
  if (*args[1] == '1') makeParents(path, 0755, 1);
  writeFile(args);
}

static void onPath(void (*run)(char **args), char **args) {
  args[0] = textOf(args[0]);
  run(args);
}

static void pack(char **args) { onPath(packTree, args); }
static void unpack(char **args) {
  args[0] = textOf(args[0]);
  makeParents(args[0], 0755, 0);
  unpackTree(args);
}

static void watch(char **args) { onPath(watchTree, args); }

static const struct {
  const char *name;
  int count; // of arguments
  void (*run)(char **args);
} operations[] = {
    {"stat", 2, statFile},    {"list", 2, listFiles},   {"read", 4, readFile},   {"write", 4, writeWithParents},
    {"mkdir", 3, makeDirectory}, {"rename", 3, renameFile}, {"remove", 2, removeFile}, {"chmod", 2, changeMode},
    {"chown", 4, changeOwner}, {"pack", 2, pack},        {"unpack", 2, unpack},   {"watch", 2, watch},
};

/** Gives the stream a high number, so that /dev/stdout and the like lead to /dev/null in this program. */
static int moveAway(int fd) {
  const int moved = fcntl(fd, F_DUPFD_CLOEXEC, 10);
  const int nothing = open("/dev/null", O_RDWR);
  if (nothing >= 0 && nothing != fd) {
    dup2(nothing, fd);
    close(nothing);
  }
  return moved;
}

int serveFiles(int count, char **args) {
  inputFd = moveAway(0);
  answerFd = moveAway(1);
  reportFd = moveAway(2);
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  // A socket that the worker gives this program does not wait, because Node has opened it.
  fcntl(inputFd, F_SETFL, fcntl(inputFd, F_GETFL) & ~O_NONBLOCK);
  fcntl(answerFd, F_SETFL, fcntl(answerFd, F_GETFL) & ~O_NONBLOCK);
  // Larger pipes mean fewer changes between this program and the agent. If the kernel refuses, they stay as they are.
  fcntl(inputFd, F_SETPIPE_SZ, pipeBytes);
  fcntl(answerFd, F_SETPIPE_SZ, pipeBytes);
  umask(0);
  signal(SIGPIPE, SIG_IGN); // The write fails instead, and temporary files are removed.
  for (size_t at = 0; at < sizeof operations / sizeof *operations; at++) {
    if (strcmp(operations[at].name, args[0]) != 0 || operations[at].count != count - 1) continue;
    operations[at].run(args + 1);
    flushAnswer();
    return 0;
  }
  return 2;
}
