// Makes a box's own range of ids, on the host, before the runtime starts. It makes a user namespace whose creator is a
// user of the host for this box alone: the kernel charges that user for what it counts per user. It mounts image and
// disk so that their files appear in the range. On the disks, the ids are the same for all boxes.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "host-program.h"

// These numbers are the same on every architecture (since Linux 5.2 and 5.12). Older headers lack them.
enum {
  callOpenTree = 428,
  callMoveMount = 429,
  callMountSetattr = 442,
  openTreeClone = 1,
  moveFromEmpty = 4,
  attrIdmap = 0x100000,
  keepCaps = 1 << 2
};

struct mountAttr {
  uint64_t set, clear, propagation, usernsFd;
};

static int complain(const char *step) {
  // container-boot.ts recognizes this error by its first words.
  fprintf(stderr, "boxrun: no ids of its own for the box: %s: %s\n", step, strerror(errno));
  return 9;
}

static int writeMap(pid_t pid, const char *name, const char *map) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
  const int file = open(path, O_WRONLY | O_CLOEXEC);
  if (file < 0) return -1;
  const ssize_t written = write(file, map, strlen(map));
  close(file);
  return written == (ssize_t)strlen(map) ? 0 : -1;
}

/** Makes a namespace as the user `creator`. It keeps capabilities: some hosts let only root make user namespaces. */
static int makeNamespace(uid_t creator, int ready) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (creator != 0) {
    if (prctl(PR_SET_SECUREBITS, keepCaps) != 0) return 1;
    if (syscall(SYS_setresgid, creator, creator, creator) != 0 ||
        syscall(SYS_setresuid, creator, creator, creator) != 0)
      return 1;
  }
  if (unshare(CLONE_NEWUSER) != 0) return 1;
  if (write(ready, "", 1) != 1) return 1;
  for (;;) pause();
}

/** Makes a user namespace with this map. Returns its descriptor, or -1. */
static int openNamespace(uid_t creator, const char *map) {
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) return -1;
  const pid_t pid = fork();
  if (pid < 0) return -1;
  if (pid == 0) {
    const int failed = makeNamespace(creator, ready[1]);
    _exit(failed == 0 ? 0 : errno);
  }
  close(ready[1]);
  char said;
  int namespace = -1;
  int status = 0;
  if (read(ready[0], &said, 1) == 1) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
    if (writeMap(pid, "uid_map", map) == 0 && writeMap(pid, "gid_map", map) == 0)
      namespace = open(path, O_RDONLY | O_CLOEXEC);
  }
  const int code = errno;
  close(ready[0]);
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
  errno = WIFEXITED(status) ? WEXITSTATUS(status) : code;
  return namespace;
}

/** Mounts the directory `from` over `to`, with ids as `namespace` maps them. */
static int mountMapped(const char *from, const char *to, int namespace) {
  const int tree = (int)syscall(callOpenTree, AT_FDCWD, from, openTreeClone | O_CLOEXEC);
  if (tree < 0) return -1;
  struct mountAttr attributes = {.set = attrIdmap, .usernsFd = (uint64_t)namespace};
  if (syscall(callMountSetattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) return -1;
  const int moved = (int)syscall(callMoveMount, tree, "", AT_FDCWD, to, moveFromEmpty);
  close(tree);
  return moved;
}

static int bindNamespace(int namespace, const char *to) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", namespace);
  const int file = open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  if (file < 0) return -1;
  close(file);
  return mount(path, to, NULL, MS_BIND, NULL);
}

/**
 * Arguments: creator, first id of the range, first id on the disks, size of the range, image, mount point of the image,
 * mount point of the disk, file for the namespace.
 */
int ranges(char **args) {
  const unsigned long creator = strtoul(args[0], NULL, 10), base = strtoul(args[1], NULL, 10),
                      stored = strtoul(args[2], NULL, 10);
  const unsigned long size = strtoul(args[3], NULL, 10);
  char inside[64], onDisk[128];
  snprintf(inside, sizeof inside, "0 %lu %lu\n", base, size);
  // The host's root is mapped to itself, because overlayfs works on the disk as root.
  snprintf(onDisk, sizeof onDisk, "0 0 1\n%lu %lu %lu\n", stored, base, size);
  const int box = openNamespace((uid_t)creator, inside);
  if (box < 0) return complain("user namespace");
  const int disks = openNamespace(0, onDisk);
  if (disks < 0) return complain("user namespace for mounts");
  if (mountMapped(args[4], args[5], disks) != 0) return complain("image");
  if (mountMapped(args[6], args[6], disks) != 0) return complain("disk");
  if (bindNamespace(box, args[7]) != 0) return complain("place of the namespace");
  return 0;
}
