// Reports what changes in a directory of the box, or of one file (inotify). It runs until its input ends.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>
#include "files.h"

enum { watchesMax = 8192 };

/** Paths of the watched directories below the given one, by the number of their watch. */
static char **paths;
static int pathRoom, watchCount;
static int notices;
static int isRecursive;
static char *top;

static void putChange(char kind, int isDirectory, const char *directory, const char *name) {
  const size_t before = strlen(directory), after = strlen(name);
  const int isJoined = before > 0 && after > 0;
  const struct {
    uint32_t bytes;
    char kind, isDirectory;
  } __attribute__((packed)) change = {(uint32_t)(2 + before + isJoined + after), kind, (char)isDirectory};
  put(&change, sizeof change);
  put(directory, before);
  put("/", isJoined);
  put(name, after);
}

static void rememberPath(int watch, const char *path) {
  if (watch >= pathRoom) {
    const int room = watch * 2 + 64;
    paths = realloc(paths, (size_t)room * sizeof *paths);
    if (paths == NULL) failWith(ENOMEM, NULL, "out of memory");
    memset(paths + pathRoom, 0, (size_t)(room - pathRoom) * sizeof *paths);
    pathRoom = room;
  }
  if (paths[watch] == NULL) watchCount++;
  free(paths[watch]);
  paths[watch] = strdup(path);
}

/**
 * Watches a directory, and those in it. `path` is relative to the given one.
 * @param says true: what is found is reported as new, because it may have come before its directory was watched
 */
static void addWatch(const char *path, int says, unsigned depth) {
  static const uint32_t changes = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_CLOSE_WRITE |
                                  IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;
  char *full = malloc(strlen(top) + strlen(path) + 2);
  if (full == NULL) failWith(ENOMEM, NULL, "out of memory");
  strcpy(full, top);
  if (*path != '\0') strcat(strcat(full, "/"), path);
  if (watchCount >= watchesMax) failWith(EMFILE, full, "more directories than one watch may have");
  const int watch = inotify_add_watch(notices, full, changes | (*path == '\0' ? 0 : IN_DONT_FOLLOW | IN_ONLYDIR));
  if (watch < 0) {
    if (*path == '\0' || errno == ENOSPC) failPath(full);
    free(full);
    return; // It is gone, or closed to this user.
  }
  rememberPath(watch, path);
  DIR *directory = isRecursive && depth < depthMax ? opendir(full) : NULL;
  free(full);
  if (directory == NULL) return;
  for (struct dirent *found; (found = readdir(directory)) != NULL;) {
    if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0) continue;
    if (says) putChange('c', found->d_type == DT_DIR, path, found->d_name);
    if (found->d_type != DT_DIR) continue;
    char *below = malloc(strlen(path) + strlen(found->d_name) + 2);
    if (below == NULL) failWith(ENOMEM, NULL, "out of memory");
    strcpy(below, path);
    if (*path != '\0') strcat(below, "/");
    addWatch(strcat(below, found->d_name), says, depth + 1);
    free(below);
  }
  closedir(directory);
}

/**
 * True for files that this program writes and that have no place yet. The kernel calls a file without a name `#` and a
 * number; a real file with such a name exists.
 */
static int isTemporary(const char *directory, const char *name) {
  struct stat file;
  if (strncmp(name, ".boxrun-upload-", 15) == 0) return 1;
  if (*name != '#' || name[1] == '\0' || name[1 + strspn(name + 1, "0123456789")] != '\0') return 0;
  static char path[pathBytesMax];
  if (snprintf(path, sizeof path, "%s/%s/%s", top, directory, name) >= (int)sizeof path) return 0;
  return lstat(path, &file) != 0;
}

static char kindOf(uint32_t mask) {
  if (mask & IN_CREATE) return 'c';
  if (mask & IN_MODIFY) return 'm';
  if (mask & IN_CLOSE_WRITE) return 'w';
  if (mask & IN_ATTRIB) return 'a';
  if (mask & IN_MOVED_FROM) return 'f';
  if (mask & IN_MOVED_TO) return 't';
  return 'd';
}

/** Returns 0 when what is watched is gone. */
static int takeChange(const struct inotify_event *event) {
  if (event->mask & IN_Q_OVERFLOW) {
    putChange('o', 0, "", "");
    return 1;
  }
  if (event->wd < 0 || event->wd >= pathRoom || paths[event->wd] == NULL) return 1;
  const char *directory = paths[event->wd], *name = event->len > 0 ? event->name : "";
  const int isTop = *directory == '\0' && *name == '\0';
  if (event->mask & IN_IGNORED) {
    free(paths[event->wd]);
    paths[event->wd] = NULL;
    watchCount--;
    return 1;
  }
  if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF)) {
    if (!isTop) return 1; // The watch of its directory reports it.
    putChange('d', 0, "", "");
    return 0;
  }
  const int isDirectory = (event->mask & IN_ISDIR) != 0;
  if (isDirectory && *name == '\0' && !isTop) return 1; // The watch above reports it, too.
  if (isTemporary(directory, name)) return 1;
  putChange(kindOf(event->mask), isDirectory, directory, name);
  if (!isRecursive || !isDirectory || (event->mask & (IN_CREATE | IN_MOVED_TO)) == 0) return 1;
  char *below = malloc(strlen(directory) + strlen(name) + 2);
  if (below == NULL) failWith(ENOMEM, NULL, "out of memory");
  strcpy(below, directory);
  if (*directory != '\0') strcat(below, "/");
  addWatch(strcat(below, name), 1, 1);
  free(below);
  return 1;
}

/** path, 1 to watch the directories below it, too */
void watchTree(char **args) {
  static char events[blockBytes] __attribute__((aligned(8)));
  top = args[0];
  isRecursive = *args[1] == '1';
  notices = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  if (notices < 0) failPath(top);
  addWatch("", 0, 0);
  putChange('r', 0, "", "");
  flushAnswer();
  for (;;) {
    struct pollfd waits[2] = {{.fd = notices, .events = POLLIN}, {.fd = inputOf(), .events = POLLIN}};
    if (poll(waits, 2, -1) < 0 && errno != EINTR) failPath(top);
    if (waits[1].revents != 0) return; // The client has left. It sends nothing.
    const ssize_t got = read(notices, events, sizeof events);
    if (got < 0 && errno != EAGAIN && errno != EINTR) failPath(top);
    for (ssize_t at = 0; at < got;) {
      const struct inotify_event *event = (const struct inotify_event *)(events + at);
      if (!takeChange(event)) return;
      at += (ssize_t)(sizeof *event + event->len);
    }
    flushAnswer();
  }
}
