// The host program: the parts of the container driver that Node cannot do, each as a process of its own on the host:
// the terminal of a command (terminal.c), and the range of ids of a box (ranges.c).
#include <string.h>
#include "host-program.h"

int main(int count, char **args) {
  if (count < 3 || strcmp(args[2], HOST_PROGRAM_VERSION) != 0) return 2;
  if (count > 4 && strcmp(args[1], "terminal") == 0) return serveTerminal(count - 3, args + 3);
  if (count == 11 && strcmp(args[1], "ranges") == 0) return ranges(args + 3);
  return 2;
}
