// Packs a directory into a tar archive (POSIX pax) while it is read: nothing is written in the box. It keeps modes,
// owners, times to the nanosecond, links, hard links, holes, and the extended attributes `user.*` and the capabilities
// of programs. A file that changes meanwhile gets the length that it had, and a warning.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "files.h"
#include "tar.h"

enum { octalNumbersMax = 07777777, extentsMax = 1 << 16, namesBytesMax = 1 << 16 };

/** The attributes of one entry in the pax format. */
static char pax[paxBytesMax];
static size_t paxBytes;
/** The path of the present entry in the archive. */
static char path[pathBytesMax] = ".";

struct extent {
  uint64_t offset, bytes;
};

/** Files with several names, as they are found. */
static struct seen {
  dev_t device;
  ino_t inode;
  char *path;
} *seen;
static size_t seenRoom, seenCount;

static void putZeros(size_t count) {
  static const char zeros[blockBytes];
  for (; count > 0; count -= count < sizeof zeros ? count : sizeof zeros)
    put(zeros, count < sizeof zeros ? count : sizeof zeros);
}

static size_t paddingOf(uint64_t bytes) { return (tarBlock - bytes % tarBlock) % tarBlock; }

/** Adds an attribute as a line `length key=value`, whose length counts its own digits. */
static void addPax(const char *key, const char *value, size_t bytes) {
  const size_t rest = strlen(key) + bytes + 3;
  size_t length = rest + 1;
  for (size_t digits = 0, before = 0; before != length; before = length, length = rest + digits) {
    char text[24];
    digits = (size_t)snprintf(text, sizeof text, "%zu", before == 0 ? rest + 1 : before);
  }
  if (paxBytes + length + 1 > sizeof pax) return;
  paxBytes += (size_t)sprintf(pax + paxBytes, "%zu %s=", length, key);
  memcpy(pax + paxBytes, value, bytes);
  paxBytes += bytes;
  pax[paxBytes++] = '\n';
}

static void addPaxNumber(const char *key, uint64_t number) {
  char text[24];
  addPax(key, text, (size_t)snprintf(text, sizeof text, "%llu", (unsigned long long)number));
}

static void putHeader(struct tarHeader *header) {
  memcpy(header->magic, "ustar\00000", 8);
  memset(header->checksum, ' ', sizeof header->checksum);
  unsigned sum = 0;
  for (size_t at = 0; at < sizeof *header; at++) sum += ((unsigned char *)header)[at];
  snprintf(header->checksum, sizeof header->checksum, "%06o", sum);
  header->checksum[7] = ' ';
  put(header, sizeof *header);
}

#define setOctal(field, number) setDigits(field, sizeof field, number)

static void setDigits(char *field, size_t size, uint64_t number) {
  char digits[32];
  snprintf(digits, sizeof digits, "%0*llo", (int)size - 1, (unsigned long long)number);
  memcpy(field, digits, size - 1);
  field[size - 1] = '\0';
}

/** Puts the attributes that do not fit into the header, then the header. `size` is that of the data in the archive. */
static void putEntry(const struct stat *file, char type, const char *target, uint64_t size, uint64_t realSize) {
  struct tarHeader header = {.type = type};
  char time[48];
  const int isSparse = realSize != size;
  const size_t nameBytes = strlen(path);
  const int isDirectory = type == tarDirectory;
  if (isSparse) {
    addPaxNumber("GNU.sparse.major", 1);
    addPaxNumber("GNU.sparse.minor", 0);
    addPax("GNU.sparse.name", path, nameBytes);
    addPaxNumber("GNU.sparse.realsize", realSize);
  }
  if (nameBytes + isDirectory <= sizeof header.name) {
    memcpy(header.name, path, nameBytes);
    if (isDirectory) header.name[nameBytes] = '/';
  } else {
    memcpy(header.name, path + nameBytes - sizeof header.name, sizeof header.name);
    addPax("path", path, nameBytes);
  }
  if (strlen(target) > sizeof header.linkName) addPax("linkpath", target, strlen(target));
  memcpy(header.linkName, target, strnlen(target, sizeof header.linkName));
  setOctal(header.mode, file->st_mode & 07777);
  setOctal(header.uid, file->st_uid > octalNumbersMax ? 0 : file->st_uid);
  setOctal(header.gid, file->st_gid > octalNumbersMax ? 0 : file->st_gid);
  if (file->st_uid > octalNumbersMax) addPaxNumber("uid", file->st_uid);
  if (file->st_gid > octalNumbersMax) addPaxNumber("gid", file->st_gid);
  if (size > 077777777777) addPaxNumber("size", size);
  setOctal(header.size, size > 077777777777 ? 0 : size);
  const int64_t seconds = file->st_mtim.tv_sec;
  const long nanoseconds = file->st_mtim.tv_nsec;
  setOctal(header.mtime, seconds < 0 || seconds > 077777777777 ? 0 : (uint64_t)seconds);
  if (nanoseconds != 0 || seconds < 0 || seconds > 077777777777) {
    // A time before 1970 counts backwards, and its fraction too.
    const int isBefore = seconds < 0;
    const int64_t whole = isBefore && nanoseconds > 0 ? seconds + 1 : seconds;
    const long fraction = isBefore && nanoseconds > 0 ? 1000000000 - nanoseconds : nanoseconds;
    const int bytes = snprintf(time, sizeof time, "%s%lld.%09ld", isBefore && whole == 0 ? "-" : "", (long long)whole, fraction);
    addPax("mtime", time, (size_t)bytes);
  }
  if (type == tarCharacterDevice || type == tarBlockDevice) {
    setOctal(header.major, major(file->st_rdev));
    setOctal(header.minor, minor(file->st_rdev));
  }
  if (paxBytes > 0) {
    struct tarHeader attributes = {.name = "././@PaxHeader", .type = tarPax};
    setOctal(attributes.mode, 0644);
    setOctal(attributes.uid, 0);
    setOctal(attributes.gid, 0);
    setOctal(attributes.mtime, 0);
    setOctal(attributes.size, paxBytes);
    putHeader(&attributes);
    put(pax, paxBytes);
    putZeros(paddingOf(paxBytes));
    paxBytes = 0;
  }
  putHeader(&header);
}

static int isKeptAttribute(const char *name) {
  return strncmp(name, "user.", 5) == 0 || strcmp(name, "security.capability") == 0;
}

/** Adds the extended attributes of an open file to those of the entry. */
static void addXattrs(int fd) {
  static char names[namesBytesMax], value[namesBytesMax];
  const ssize_t bytes = flistxattr(fd, names, sizeof names);
  for (ssize_t at = 0; at < bytes; at += (ssize_t)strlen(names + at) + 1) {
    char key[300];
    if (!isKeptAttribute(names + at)) continue;
    const ssize_t got = fgetxattr(fd, names + at, value, sizeof value);
    if (got < 0 || snprintf(key, sizeof key, "SCHILY.xattr.%s", names + at) >= (int)sizeof key) continue;
    addPax(key, value, (size_t)got);
  }
}

/** Finds where a file has data. Returns the number of extents, or -1 if the file has no holes worth keeping. */
static long findExtents(int fd, const struct stat *file, struct extent *extents) {
  if (file->st_size < blockBytes || file->st_blocks * 512 >= file->st_size) return -1;
  long count = 0;
  for (off_t at = 0; at < file->st_size;) {
    const off_t data = lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break; // A hole is at the end.
    const off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
    if (hole < 0 || count == extentsMax - 1) return -1;
    extents[count++] = (struct extent){(uint64_t)data, (uint64_t)((hole < file->st_size ? hole : file->st_size) - data)};
    at = hole;
  }
  // An extent without bytes says where the file ends.
  extents[count++] = (struct extent){(uint64_t)file->st_size, 0};
  return count;
}

/** Puts bytes of a file. What is missing at its end becomes zeros. Returns how many were there. */
static uint64_t putBytes(int fd, uint64_t offset, uint64_t bytes) {
  static char block[blockBytes];
  uint64_t done = 0;
  while (done < bytes) {
    const uint64_t left = bytes - done;
    const ssize_t got = pread(fd, block, left < sizeof block ? left : sizeof block, (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) failPath(path);
    if (got == 0) break;
    put(block, (size_t)got);
    done += (uint64_t)got;
  }
  putZeros(bytes - done);
  return done;
}

/**
 * Puts a file with holes: a map of its data in decimal lines (GNU's format 1.0), then the data. Returns 0 if a part of
 * the data was gone.
 */
static int putSparse(int fd, const struct stat *file, const struct extent *extents, long count) {
  const size_t room = (size_t)(count * 2 + 1) * 21 + tarBlock;
  char *map = malloc(room);
  if (map == NULL) failWith(ENOMEM, path, "out of memory");
  size_t mapBytes = (size_t)sprintf(map, "%ld\n", count);
  uint64_t data = 0;
  for (long at = 0; at < count; at++) {
    mapBytes += (size_t)sprintf(map + mapBytes, "%llu\n%llu\n", (unsigned long long)extents[at].offset,
                                (unsigned long long)extents[at].bytes);
    data += extents[at].bytes;
  }
  memset(map + mapBytes, 0, paddingOf(mapBytes));
  mapBytes += paddingOf(mapBytes);
  putEntry(file, tarFile, "", mapBytes + data, (uint64_t)file->st_size);
  put(map, mapBytes);
  free(map);
  int isWhole = 1;
  for (long at = 0; at < count; at++)
    if (putBytes(fd, extents[at].offset, extents[at].bytes) < extents[at].bytes) isWhole = 0;
  putZeros(paddingOf(data));
  return isWhole;
}

static void packFile(int fd, const struct stat *file) {
  static struct extent extents[extentsMax];
  struct stat after;
  addXattrs(fd);
  const long count = findExtents(fd, file, extents);
  const uint64_t size = (uint64_t)file->st_size;
  int isShorter;
  if (count >= 0) isShorter = !putSparse(fd, file, extents, count);
  else {
    putEntry(file, tarFile, "", size, size);
    isShorter = putBytes(fd, 0, size) < size;
    putZeros(paddingOf(size));
  }
  if (isShorter) warnChanged(path, "it became shorter while it was read");
  else if (fstat(fd, &after) == 0 && (after.st_size != file->st_size || after.st_mtim.tv_sec != file->st_mtim.tv_sec ||
                                      after.st_mtim.tv_nsec != file->st_mtim.tv_nsec))
    warnChanged(path, "it changed while it was read");
}

/** Returns the first path of a file that was packed before under another name. NULL: it is remembered now. */
static const char *seenBefore(const struct stat *file) {
  if (file->st_nlink < 2) return NULL;
  if (2 * seenCount >= seenRoom) {
    const size_t room = seenRoom == 0 ? 1024 : seenRoom * 4;
    struct seen *larger = calloc(room, sizeof *larger);
    if (larger == NULL) failWith(ENOMEM, path, "out of memory");
    for (size_t at = 0; at < seenRoom; at++) {
      if (seen[at].path == NULL) continue;
      size_t to = seen[at].inode % room;
      while (larger[to].path != NULL) to = (to + 1) % room;
      larger[to] = seen[at];
    }
    free(seen);
    seen = larger;
    seenRoom = room;
  }
  size_t at = file->st_ino % seenRoom;
  for (; seen[at].path != NULL; at = (at + 1) % seenRoom)
    if (seen[at].inode == file->st_ino && seen[at].device == file->st_dev) return seen[at].path;
  seen[at] = (struct seen){file->st_dev, file->st_ino, strdup(path)};
  seenCount++;
  return NULL;
}

static void packDirectory(int fd, const struct stat *file, unsigned depth);

/** Packs what has the present path, and is `name` in `directory`. */
static void packEntry(int directory, const char *name, unsigned depth) {
  struct stat file;
  if (fstatat(directory, name, &file, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) warnChanged(path, "it was removed meanwhile");
    else warnLeftOut(path, strerror(errno));
    return;
  }
  if (S_ISREG(file.st_mode) || S_ISDIR(file.st_mode)) {
    const int kind = S_ISDIR(file.st_mode) ? O_DIRECTORY : O_NONBLOCK | O_NOCTTY;
    const int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | kind);
    if (fd < 0 || fstat(fd, &file) != 0 || (!S_ISREG(file.st_mode) && !S_ISDIR(file.st_mode))) {
      if (errno == ENOENT) warnChanged(path, "it was removed meanwhile");
      else warnLeftOut(path, strerror(errno));
    } else if (S_ISDIR(file.st_mode)) {
      packDirectory(fd, &file, depth + 1);
      return;
    } else {
      const char *first = seenBefore(&file);
      if (first != NULL) putEntry(&file, tarHardLink, first, 0, 0);
      else packFile(fd, &file);
    }
    if (fd >= 0) close(fd);
    return;
  }
  if (S_ISSOCK(file.st_mode)) return; // A socket without its program is of no use; tar leaves sockets out, too.
  const char *first = seenBefore(&file);
  if (first != NULL) putEntry(&file, tarHardLink, first, 0, 0);
  else if (S_ISLNK(file.st_mode)) putEntry(&file, tarLink, linkTarget(directory, name), 0, 0);
  else if (S_ISFIFO(file.st_mode)) putEntry(&file, tarFifo, "", 0, 0);
  else putEntry(&file, S_ISCHR(file.st_mode) ? tarCharacterDevice : tarBlockDevice, "", 0, 0);
}

static void packDirectory(int fd, const struct stat *file, unsigned depth) {
  addXattrs(fd);
  putEntry(file, tarDirectory, "", 0, 0);
  DIR *directory = depth > depthMax ? NULL : fdopendir(fd);
  if (directory == NULL) {
    warnLeftOut(path, depth > depthMax ? "too many directories are below each other" : strerror(errno));
    close(fd);
    return;
  }
  for (struct dirent *found; (found = readdir(directory)) != NULL;) {
    if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0) continue;
    const ssize_t before = appendName(path, found->d_name);
    if (before < 0) {
      warnLeftOut(path, strerror(ENAMETOOLONG));
      continue;
    }
    packEntry(fd, found->d_name, depth);
    path[before] = '\0';
  }
  closedir(directory);
}

/** the directory; 1 to say that it begins */
void packTree(char **args) {
  struct stat file;
  const int fd = open(args[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && errno == ENOTDIR && stat(args[0], &file) == 0) failWith(ENOTDIR, args[0], "it is not a directory");
  if (fd < 0 || fstat(fd, &file) != 0) failPath(args[0]);
  if (*args[1] == '1') put("r", 1);
  packDirectory(fd, &file, 0);
  putZeros(2 * tarBlock);
}
