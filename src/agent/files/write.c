// Writes one file of the box. Whoever reads the file sees the old content or the whole new one: the new file gets its
// place in one step, when the client has said that everything was sent. Links are followed, as cp does it. A file with
// several names, or on which something is mounted, gets the new content in its place instead. FIFOs, devices and files
// of the kernel get the bytes as they come.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "files.h"

static struct part part = {.directory = -1, .fd = -1};

int openPart(struct part *its, int directory) {
  *its = (struct part){.directory = directory, .fd = -1};
  // A file without a name disappears if this program is killed.
  its->fd = openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (its->fd >= 0) return 1;
  uint64_t random;
  if (getrandom(&random, sizeof random, 0) != sizeof random) return 0;
  snprintf(its->name, sizeof its->name, ".boxrun-upload-%016llx", (unsigned long long)random);
  its->fd = openat(directory, its->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (its->fd < 0) *its->name = '\0';
  return its->fd >= 0;
}

int placePart(struct part *its, const char *name) {
  if (*its->name == '\0') {
    char self[32], temporary[sizeof its->name];
    uint64_t random;
    if (getrandom(&random, sizeof random, 0) != sizeof random) return 0;
    snprintf(self, sizeof self, "/proc/self/fd/%d", its->fd);
    // If no file has the name, the new one gets it at once.
    if (linkat(AT_FDCWD, self, its->directory, name, AT_SYMLINK_FOLLOW) == 0) return 1;
    if (errno != EEXIST) return 0;
    snprintf(temporary, sizeof temporary, ".boxrun-upload-%016llx", (unsigned long long)random);
    if (linkat(AT_FDCWD, self, its->directory, temporary, AT_SYMLINK_FOLLOW) != 0) return 0;
    strcpy(its->name, temporary);
  }
  if (renameat(its->directory, its->name, its->directory, name) != 0) return 0;
  *its->name = '\0';
  return 1;
}

void dropPart(struct part *its) {
  if (*its->name != '\0') unlinkat(its->directory, its->name, 0);
  *its->name = '\0';
  if (its->fd >= 0) close(its->fd);
  its->fd = -1;
}

static void tidyPart(void) { dropPart(&part); }

/**
 * Follows the links at the end of the path, also when the last target does not exist. Returns the path behind them.
 * Other links in the path are left to the kernel.
 */
static char *followLinks(char *path) {
  for (int links = 0; links < 40; links++) {
    struct stat file;
    if (lstat(path, &file) != 0 || !S_ISLNK(file.st_mode)) return path;
    // What is behind a link of /proc (as /dev/stdout is) may have no path. The kernel finds it.
    struct stat target;
    if (stat(path, &target) == 0 && !S_ISREG(target.st_mode)) return path;
    const char *to = linkTarget(AT_FDCWD, path);
    const char *slash = strrchr(path, '/');
    const size_t before = *to == '/' || slash == NULL ? 0 : (size_t)(slash - path) + 1;
    char *next = malloc(before + strlen(to) + 1);
    if (next == NULL) failWith(ENOMEM, NULL, "out of memory");
    memcpy(next, path, before);
    strcpy(next + before, to);
    path = next;
  }
  failWith(ELOOP, path, "its links lead in a circle");
}

void copyPart(const struct part *its, int to, const char *path) {
  static char block[blockBytes];
  if (to < 0) failPath(path);
  for (off_t at = 0;;) {
    const ssize_t got = pread(its->fd, block, sizeof block, at);
    if (got < 0 || (got > 0 && !writeAll(to, block, (size_t)got))) failPath(path);
    if (got == 0) break;
    at += got;
  }
  if (close(to) != 0) failPath(path);
}

static void takeAll(int fd, const char *path) {
  static char block[blockBytes];
  for (size_t got; (got = takeSome(block, sizeof block)) > 0;)
    if (!writeAll(fd, block, got)) failPath(path);
}

static void sayReady(void) {
  put("r", 1);
  flushAnswer();
}

/** Gives the new file the owner and the mode of the file that it replaces, or what the client asked for. */
static void takeAttributes(const char *path, const struct stat *before, const char *mode, const char *seconds) {
  mode_t bits = 0644;
  if (before != NULL) {
    bits = before->st_mode & 07777;
    // Only root may give a file away. For others the file becomes theirs, as with an editor that replaces files.
    if (fchown(part.fd, before->st_uid, before->st_gid) != 0 && errno != EPERM) failPath(path);
  }
  if (*mode != '\0') bits = (mode_t)strtoul(mode, NULL, 8);
  if (fchmod(part.fd, bits) != 0) failPath(path);
  if (*seconds == '\0') return;
  const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, timeOf(seconds)};
  if (futimens(part.fd, times) != 0) failPath(path);
}

/** True if the part can take the place of the file, and nothing else refers to that file. */
static int canReplace(const struct stat *before) { return before == NULL || before->st_nlink == 1; }

/** path, (1 to make parents), mode in octal or empty, seconds since 1970 or empty */
void writeFile(char **args) {
  char *path = followLinks(args[0]);
  struct stat file;
  const int exists = stat(path, &file) == 0;
  if (exists && S_ISDIR(file.st_mode)) failWith(EISDIR, path, "it is a directory");
  char *slash = strrchr(path, '/');
  const char *name = slash == NULL ? path : slash + 1;
  if (*name == '\0') failWith(EISDIR, path, "it is a directory");
  if (!exists || S_ISREG(file.st_mode)) {
    char *parent = slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    const int directory = parent == NULL ? -1 : open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) failPath(path);
    tidyUp = tidyPart;
    const int isBeside = openPart(&part, directory);
    if (!isBeside && !exists) failPath(path);
  }
  sayReady();
  if (part.fd < 0) {
    // It stays the same file: its directory takes no new files, or it is no plain file.
    const int to = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY | (S_ISREG(file.st_mode) ? O_TRUNC : 0));
    if (to < 0) failPath(path);
    takeAll(to, path);
    if (close(to) != 0) failPath(path);
    return;
  }
  takeAll(part.fd, path);
  // The file may have changed while the bytes came.
  const int isThere = stat(path, &file) == 0;
  if (isThere && S_ISDIR(file.st_mode)) failWith(EISDIR, path, "it is a directory");
  const struct stat *before = isThere ? &file : NULL;
  takeAttributes(path, before, args[2], args[3]);
  if (canReplace(before) && placePart(&part, name)) return;
  if (canReplace(before) && errno != EBUSY) failPath(path);
  copyPart(&part, open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOCTTY), path);
  dropPart(&part);
}
