// The header block of a tar archive (POSIX.1-1988, "ustar"), and the types of entries that this program knows.
#ifndef BOXRUN_TAR_H
#define BOXRUN_TAR_H

enum { tarBlock = 512, paxBytesMax = 1 << 20 };

struct tarHeader {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, linkName[100];
  char magic[8], userName[32], groupName[32], major[8], minor[8], prefix[155], padding[12];
};
_Static_assert(sizeof(struct tarHeader) == tarBlock, "a header is one block");

enum tarType {
  tarFile = '0',
  tarOldFile = '\0',
  tarHardLink = '1',
  tarLink = '2',
  tarCharacterDevice = '3',
  tarBlockDevice = '4',
  tarDirectory = '5',
  tarFifo = '6',
  tarContiguous = '7',
  tarPax = 'x', // attributes of the next entry
  tarPaxGlobal = 'g',
  tarGnuLongLink = 'K',
  tarGnuLongName = 'L',
  tarGnuSparse = 'S',
};

#endif
