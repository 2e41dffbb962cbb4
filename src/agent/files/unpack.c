// Unpacks a tar archive into a directory: ustar, pax, GNU's long names and its sparse files. Nothing is written outside
// the directory: the kernel refuses each path that would lead out of it (openat2). Each file gets its place in one
// step, so a full disk or the end of this program leaves the old file. Directories get their modes and times at the
// end, because making files in them changes the times and may need other modes.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "files.h"
#include "tar.h"

enum { xattrsMax = 64, extentsMax = 1 << 20, directoriesMax = 1 << 20, callOpenat2 = 437 };

struct xattr {
  char *name, *value;
  size_t bytes;
};

struct extent {
  uint64_t offset, bytes;
};

/** One entry of the archive, with the attributes of the headers before it. */
static struct entry {
  char type;
  char *path, *target;
  mode_t mode;
  uid_t uid;
  gid_t gid;
  dev_t device;
  uint64_t size, realSize;
  struct timespec mtime;
  int hasPath, hasTarget, hasSize, hasMtime, hasUid, hasGid, sparseMajor, isSparse;
  struct xattr xattrs[xattrsMax];
  unsigned xattrCount;
  struct extent *extents;
  size_t extentCount;
} entry;

/** A directory whose mode and time are set at the end. */
static struct directory {
  char *path;
  struct entry attributes;
} *directories;
static size_t directoryCount;

static int root;
static int keepsOwners;
static struct part part = {.directory = -1, .fd = -1};

static void tidyPart(void) { dropPart(&part); }

static void refuse(const char *why) { failWith(EBADMSG, NULL, why); }

static void *allocate(size_t bytes) {
  void *memory = malloc(bytes);
  if (memory == NULL) failWith(ENOMEM, NULL, "out of memory");
  return memory;
}

/** Returns 0 at the end of the input, if nothing was read. */
static int takeBytes(char *bytes, size_t count) {
  size_t done = 0;
  while (done < count) {
    const size_t got = takeSome(bytes + done, count - done);
    if (got == 0 && done == 0) return 0;
    if (got == 0) refuse("the archive ends in the middle of a file");
    done += got;
  }
  return 1;
}

static void skip(uint64_t bytes) {
  static char ignored[blockBytes];
  while (bytes > 0) {
    const size_t part = bytes < sizeof ignored ? bytes : sizeof ignored;
    if (!takeBytes(ignored, part)) refuse("the archive ends in the middle of a file");
    bytes -= part;
  }
}

static uint64_t paddingOf(uint64_t bytes) { return (tarBlock - bytes % tarBlock) % tarBlock; }

/** Reads a number of the header: octal digits, or (GNU) bits after a first byte of 0x80 or 0xff. */
static int64_t numberOf(const char *field, size_t size) {
  if (*field & 0x80) {
    int64_t number = *field & 0x40 ? -1 : 0;
    for (size_t at = size > 8 ? size - 8 : 1; at < size; at++)
      number = (int64_t)((uint64_t)number << 8 | (unsigned char)field[at]);
    return number;
  }
  int64_t number = 0;
  for (size_t at = 0; at < size; at++)
    if (field[at] >= '0' && field[at] <= '7') number = number * 8 + (field[at] - '0');
    else if (field[at] != ' ' || number != 0) break;
  return number;
}

#define fieldOf(field) numberOf(field, sizeof field)

static char *copyOf(const char *text, size_t bytes) {
  char *copy = allocate(bytes + 1);
  memcpy(copy, text, bytes);
  copy[bytes] = '\0';
  return copy;
}

static void addExtent(uint64_t offset, uint64_t bytes) {
  if (entry.extentCount >= extentsMax) refuse("a file has too many holes");
  if ((entry.extentCount & (entry.extentCount - 1)) == 0) {
    const size_t room = entry.extentCount == 0 ? 1 : 2 * entry.extentCount;
    entry.extents = realloc(entry.extents, room * sizeof *entry.extents);
    if (entry.extents == NULL) failWith(ENOMEM, NULL, "out of memory");
  }
  entry.extents[entry.extentCount++] = (struct extent){offset, bytes};
}

/** Reads `offset,bytes,offset,bytes…`. */
static void takeMapText(char *text) {
  for (char *at = text; *at != '\0';) {
    char *end;
    const uint64_t offset = strtoull(at, &end, 10);
    if (*end != ',') refuse("the map of a file with holes is wrong");
    const uint64_t bytes = strtoull(end + 1, &end, 10);
    addExtent(offset, bytes);
    at = *end == ',' ? end + 1 : end;
    if (*end != ',' && *end != '\0') refuse("the map of a file with holes is wrong");
  }
}

static void takeXattr(const char *name, const char *value, size_t bytes) {
  if (strncmp(name, "user.", 5) != 0 && strcmp(name, "security.capability") != 0) return;
  if (entry.xattrCount == xattrsMax) return;
  entry.xattrs[entry.xattrCount++] = (struct xattr){copyOf(name, strlen(name)), copyOf(value, bytes), bytes};
}

static void takeText(char **place, int *isSet, const char *value, size_t bytes) {
  free(*place);
  *place = copyOf(value, bytes);
  *isSet = 1;
}

static void takePax(const char *key, char *value, size_t bytes) {
  static uint64_t sparseOffset;
  const char *xattr = "SCHILY.xattr.";
  if (strcmp(key, "path") == 0 && !entry.isSparse) takeText(&entry.path, &entry.hasPath, value, bytes);
  else if (strcmp(key, "GNU.sparse.name") == 0) takeText(&entry.path, &entry.hasPath, value, bytes), entry.isSparse = 1;
  else if (strcmp(key, "linkpath") == 0) takeText(&entry.target, &entry.hasTarget, value, bytes);
  else if (strcmp(key, "size") == 0) entry.size = strtoull(value, NULL, 10), entry.hasSize = 1;
  else if (strcmp(key, "mtime") == 0) entry.mtime = timeOf(value), entry.hasMtime = 1;
  else if (strcmp(key, "uid") == 0) entry.uid = (uid_t)strtoul(value, NULL, 10), entry.hasUid = 1;
  else if (strcmp(key, "gid") == 0) entry.gid = (gid_t)strtoul(value, NULL, 10), entry.hasGid = 1;
  else if (strcmp(key, "GNU.sparse.major") == 0) entry.sparseMajor = atoi(value), entry.isSparse = 1;
  else if (strcmp(key, "GNU.sparse.realsize") == 0 || strcmp(key, "GNU.sparse.size") == 0)
    entry.realSize = strtoull(value, NULL, 10), entry.isSparse = 1;
  else if (strcmp(key, "GNU.sparse.map") == 0) takeMapText(value), entry.isSparse = 1;
  else if (strcmp(key, "GNU.sparse.offset") == 0) sparseOffset = strtoull(value, NULL, 10), entry.isSparse = 1;
  else if (strcmp(key, "GNU.sparse.numbytes") == 0) addExtent(sparseOffset, strtoull(value, NULL, 10));
  else if (strncmp(key, xattr, strlen(xattr)) == 0) takeXattr(key + strlen(xattr), value, bytes);
}

/** Reads the data of a header into memory, with a zero byte behind it. */
static char *takeData(uint64_t size) {
  if (size > paxBytesMax) refuse("the attributes of a file are too long");
  char *data = allocate(size + 1);
  if (size > 0 && !takeBytes(data, size)) refuse("the archive ends in the middle of a file");
  data[size] = '\0';
  skip(paddingOf(size));
  return data;
}

/** Reads lines `length key=value`. */
static void takePaxHeader(uint64_t size) {
  char *data = takeData(size), *at = data;
  while (at < data + size) {
    char *text;
    const unsigned long length = strtoul(at, &text, 10);
    char *end = at + length, *equals;
    if (text == at || *text != ' ' || length > (size_t)(data + size - at) || end <= text + 1 || end[-1] != '\n' ||
        (equals = memchr(text, '=', (size_t)(end - text))) == NULL)
      refuse("the attributes of a file are wrong");
    end[-1] = *equals = '\0';
    takePax(text + 1, equals + 1, (size_t)(end - 1 - (equals + 1)));
    at = end;
  }
  free(data);
}

static void takeName(char **place, int *isSet, uint64_t size) {
  free(*place);
  *place = takeData(size);
  *isSet = 1;
}

static void clearEntry(void) {
  free(entry.path);
  free(entry.target);
  free(entry.extents);
  for (unsigned at = 0; at < entry.xattrCount; at++) free(entry.xattrs[at].name), free(entry.xattrs[at].value);
  memset(&entry, 0, sizeof entry);
}

/** GNU's old format of files with holes: the map is in the header and in blocks after it. */
static void takeOldMap(const char *header) {
  const char *at = header + 386;
  entry.isSparse = 1;
  entry.realSize = (uint64_t)numberOf(header + 483, 12);
  int isMore = header[482] != 0;
  char block[tarBlock];
  for (int count = 4;; count = 21) {
    for (; count > 0 && *at != '\0'; count--, at += 24)
      addExtent((uint64_t)numberOf(at, 12), (uint64_t)numberOf(at + 12, 12));
    if (!isMore) return;
    if (!takeBytes(block, sizeof block)) refuse("the archive ends in the middle of a file");
    at = block;
    isMore = block[504] != 0;
  }
}

/** Reads the next entry with its headers. Returns 0 at the end of the archive. */
static int takeEntry(void) {
  char block[tarBlock];
  clearEntry();
  for (;;) {
    if (!takeBytes(block, sizeof block)) return 0;
    const struct tarHeader *header = (const struct tarHeader *)block;
    unsigned sum = 0, isEmpty = 1;
    for (size_t at = 0; at < sizeof block; at++) {
      if (block[at] != 0) isEmpty = 0;
      const int isSum = at >= offsetof(struct tarHeader, checksum) && at < offsetof(struct tarHeader, type);
      sum += isSum ? ' ' : (unsigned char)block[at];
    }
    if (isEmpty) return 0;
    if (*block == 0x1f && (unsigned char)block[1] == 0x8b)
      refuse("the archive is compressed with gzip; send it without the compression");
    if (fieldOf(header->checksum) != (int64_t)sum) refuse("it is not a tar archive, or it is damaged");
    const uint64_t size = (uint64_t)fieldOf(header->size);
    switch (header->type) {
      case tarPax: takePaxHeader(size); continue;
      case tarPaxGlobal: free(takeData(size)); continue;
      case tarGnuLongName: takeName(&entry.path, &entry.hasPath, size); continue;
      case tarGnuLongLink: takeName(&entry.target, &entry.hasTarget, size); continue;
    }
    entry.type = header->type;
    if (!entry.hasPath) {
      char name[sizeof header->prefix + sizeof header->name + 2];
      const int hasPrefix = memcmp(header->magic, "ustar\0", 6) == 0 && *header->prefix != '\0';
      snprintf(name, sizeof name, "%.*s%s%.*s", hasPrefix ? (int)sizeof header->prefix : 0, header->prefix,
               hasPrefix ? "/" : "", (int)sizeof header->name, header->name);
      entry.path = copyOf(name, strlen(name));
    }
    if (!entry.hasTarget) entry.target = copyOf(header->linkName, strnlen(header->linkName, sizeof header->linkName));
    if (!entry.hasSize) entry.size = size;
    if (!entry.hasMtime) entry.mtime = (struct timespec){.tv_sec = (time_t)fieldOf(header->mtime)};
    if (!entry.hasUid) entry.uid = (uid_t)fieldOf(header->uid);
    if (!entry.hasGid) entry.gid = (gid_t)fieldOf(header->gid);
    entry.mode = (mode_t)fieldOf(header->mode) & 07777;
    entry.device = makedev((unsigned)fieldOf(header->major), (unsigned)fieldOf(header->minor));
    if (entry.type == tarGnuSparse) takeOldMap(block);
    // An old archive marks a directory only by the slash at the end of its name.
    const size_t length = strlen(entry.path);
    if (entry.type == tarOldFile && length > 0 && entry.path[length - 1] == '/') entry.type = tarDirectory;
    return 1;
  }
}

/** Makes the path relative to the directory: without slashes at its ends, and without names `.`. */
static char *placeOf(const char *name) {
  char *place = allocate(strlen(name) + 2), *to = place;
  for (const char *at = name; *at != '\0';) {
    while (*at == '/') at++;
    const char *end = strchrnul(at, '/');
    const size_t length = (size_t)(end - at);
    if (length == 2 && at[0] == '.' && at[1] == '.') failWith(EXDEV, name, "'..' is not allowed in an archive");
    if (length > 0 && !(length == 1 && *at == '.')) {
      if (to > place) *to++ = '/';
      memcpy(to, at, length);
      to += length;
    }
    at = end;
  }
  *to = '\0';
  return place;
}

/** Opens a path below the directory. The kernel refuses links that lead out of it. */
static int openBelow(const char *path, uint64_t flags) {
  const struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
  return (int)syscall(callOpenat2, root, *path == '\0' ? "." : path, &how, sizeof how);
}

/** Opens the directory of a path, and makes what is missing. `*name` becomes the last name of the path. */
static int openParent(char *path, const char **name) {
  char *slash = strrchr(path, '/');
  *name = slash == NULL ? path : slash + 1;
  if (slash == NULL) return openBelow("", O_PATH | O_DIRECTORY);
  *slash = '\0';
  int fd = openBelow(path, O_PATH | O_DIRECTORY);
  if (fd < 0 && errno == ENOENT) {
    const char *last;
    const int parent = openParent(path, &last);
    if (parent >= 0) {
      (void)mkdirat(parent, last, 0755);
      close(parent);
      fd = openBelow(path, O_PATH | O_DIRECTORY);
    }
  }
  *slash = '/';
  if (fd < 0) {
    const int code = errno;
    failWith(code, path, code == EXDEV ? "a link leads out of the directory" : strerror(code));
  }
  return fd;
}

/** Sets owner, extended attributes, mode and time of an open file. */
static void setAttributes(int fd, const struct entry *its) {
  if (keepsOwners && fchown(fd, its->uid, its->gid) != 0) failPath(its->path);
  for (unsigned at = 0; at < its->xattrCount; at++) {
    const struct xattr *xattr = &its->xattrs[at];
    // File systems without such attributes exist, and only root may set the capabilities of a program.
    if (fsetxattr(fd, xattr->name, xattr->value, xattr->bytes, 0) != 0 && errno != EOPNOTSUPP && errno != EPERM)
      failPath(its->path);
  }
  if (fchmod(fd, its->mode) != 0) failPath(its->path);
  const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, its->mtime};
  if (futimens(fd, times) != 0) failPath(its->path);
}

static void copyBytes(int fd, uint64_t bytes) {
  static char block[blockBytes];
  while (bytes > 0) {
    const size_t got = takeSome(block, bytes < sizeof block ? bytes : sizeof block);
    if (got == 0) refuse("the archive ends in the middle of a file");
    if (!writeAll(fd, block, got)) failPath(entry.path);
    bytes -= got;
  }
}

/** Reads the map of GNU's format 1.0, which stands before the data. Returns how many bytes it took. */
static uint64_t takeMap(void) {
  char block[tarBlock];
  uint64_t taken = 0, number = 0, count = 0, offset = 0, index = 0;
  size_t at = sizeof block;
  for (int isFirst = 1; isFirst || index < 2 * count;) {
    if (at == sizeof block) {
      if (!takeBytes(block, sizeof block)) refuse("the archive ends in the middle of a file");
      taken += sizeof block;
      at = 0;
    }
    const char digit = block[at++];
    if (digit >= '0' && digit <= '9') {
      if (number > UINT64_MAX / 10 - 10) refuse("the map of a file with holes is wrong");
      number = number * 10 + (uint64_t)(digit - '0');
      continue;
    }
    if (digit != '\n') refuse("the map of a file with holes is wrong");
    if (isFirst) count = number, isFirst = 0;
    else if (index++ % 2 == 0) offset = number;
    else addExtent(offset, number);
    if (count > extentsMax) refuse("a file has too many holes");
    number = 0;
  }
  return taken;
}

static void takeSparse(int fd) {
  uint64_t left = entry.size;
  if (entry.sparseMajor == 1) {
    const uint64_t taken = takeMap();
    if (taken > left) refuse("the map of a file with holes is wrong");
    left -= taken;
  }
  for (size_t at = 0; at < entry.extentCount; at++) {
    const struct extent *extent = &entry.extents[at];
    if (extent->bytes > left || extent->offset > INT64_MAX) refuse("the map of a file with holes is wrong");
    if (lseek(fd, (off_t)extent->offset, SEEK_SET) < 0) failPath(entry.path);
    copyBytes(fd, extent->bytes);
    left -= extent->bytes;
  }
  if (entry.realSize > INT64_MAX || ftruncate(fd, (off_t)entry.realSize) != 0) failPath(entry.path);
  skip(left);
}

static void unpackFile(int directory, const char *name) {
  if (!openPart(&part, directory)) failPath(entry.path);
  if (entry.isSparse) takeSparse(part.fd);
  else copyBytes(part.fd, entry.size);
  skip(paddingOf(entry.size));
  setAttributes(part.fd, &entry);
  if (!placePart(&part, name)) {
    if (errno != EBUSY) failPath(entry.path);
    // Something is mounted there. The file there gets the content.
    const int flags = O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY;
    copyPart(&part, openat(directory, name, flags), entry.path);
  }
  dropPart(&part);
}

static void unpackDirectory(int directory, const char *name) {
  if (*name != '\0' && mkdirat(directory, name, 0700) != 0) {
    struct stat file;
    const int code = errno;
    if (code != EEXIST || fstatat(directory, name, &file, AT_SYMLINK_NOFOLLOW) != 0)
      failWith(code, entry.path, strerror(code));
    // A link to a directory is kept, if it stays inside: openBelow checks that for the files.
    if (!S_ISDIR(file.st_mode) && (fstatat(directory, name, &file, 0) != 0 || !S_ISDIR(file.st_mode)))
      failWith(EEXIST, entry.path, "a file is in the place of a directory");
  }
  if (directoryCount == directoriesMax) refuse("the archive has too many directories");
  if ((directoryCount & (directoryCount - 1)) == 0) {
    const size_t room = directoryCount == 0 ? 1 : 2 * directoryCount;
    directories = realloc(directories, room * sizeof *directories);
    if (directories == NULL) failWith(ENOMEM, NULL, "out of memory");
  }
  directories[directoryCount++] = (struct directory){placeOf(entry.path), entry};
  // Its texts belong to the list now.
  entry.path = entry.target = NULL;
  entry.extents = NULL;
  entry.xattrCount = 0;
}

/** Removes what is in the place of a link, a FIFO or a device. */
static void makeRoom(int directory, const char *name) {
  if (unlinkat(directory, name, 0) != 0 && errno != ENOENT) failPath(entry.path);
}

static void setOwnerAndTime(int directory, const char *name) {
  const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, entry.mtime};
  if (keepsOwners && fchownat(directory, name, entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) != 0) failPath(entry.path);
  if (utimensat(directory, name, times, AT_SYMLINK_NOFOLLOW) != 0) failPath(entry.path);
}

static void unpackHardLink(int directory, const char *name) {
  char *target = placeOf(entry.target);
  const char *last;
  const int from = openParent(target, &last);
  makeRoom(directory, name);
  if (linkat(from, last, directory, name, 0) != 0) failPath(entry.path);
  close(from);
  free(target);
}

static void unpackEntry(void) {
  char *place = placeOf(entry.path);
  const char *name;
  const int directory = openParent(place, &name);
  if (*name == '\0' && entry.type != tarDirectory) failWith(EISDIR, entry.path, "it has no name");
  switch (entry.type) {
    case tarFile:
    case tarOldFile:
    case tarContiguous:
    case tarGnuSparse:
      unpackFile(directory, name);
      break;
    case tarDirectory:
      skip(entry.size + paddingOf(entry.size));
      unpackDirectory(directory, name);
      break;
    case tarHardLink:
      skip(entry.size + paddingOf(entry.size));
      unpackHardLink(directory, name);
      break;
    case tarLink:
      makeRoom(directory, name);
      if (symlinkat(entry.target, directory, name) != 0) failPath(entry.path);
      setOwnerAndTime(directory, name);
      break;
    case tarFifo:
    case tarCharacterDevice:
    case tarBlockDevice: {
      const mode_t type = entry.type == tarFifo ? S_IFIFO : entry.type == tarCharacterDevice ? S_IFCHR : S_IFBLK;
      makeRoom(directory, name);
      if (mknodat(directory, name, type | entry.mode, entry.device) != 0) {
        if (entry.type == tarFifo || errno != EPERM) failPath(entry.path);
        warnLeftOut(entry.path, "a box may not make devices");
      } else setOwnerAndTime(directory, name);
      break;
    }
    default:
      warnLeftOut(entry.path, "its type in the archive is not known");
      skip(entry.size + paddingOf(entry.size));
  }
  close(directory);
  free(place);
}

/** From the deepest one upwards, because setting the mode of one may close the way to those below it. */
static void finishDirectories(void) {
  while (directoryCount > 0) {
    const struct directory *its = &directories[--directoryCount];
    int fd = openBelow(its->path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) failPath(its->attributes.path);
    setAttributes(fd, &its->attributes);
    close(fd);
  }
}

/** the directory; 1 to keep the owners of the archive */
void unpackTree(char **args) {
  struct stat file;
  keepsOwners = *args[1] == '1';
  root = open(args[0], O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0 && errno == ENOTDIR && stat(args[0], &file) == 0) failWith(ENOTDIR, args[0], "it is not a directory");
  if (root < 0) failPath(args[0]);
  if (openBelow("", O_PATH | O_DIRECTORY) < 0) failPath(args[0]);
  tidyUp = tidyPart;
  put("r", 1);
  flushAnswer();
  while (takeEntry()) unpackEntry();
  finishDirectories();
  // What follows the end of an archive is padding.
  static char ignored[blockBytes];
  while (takeSome(ignored, sizeof ignored) > 0);
}
