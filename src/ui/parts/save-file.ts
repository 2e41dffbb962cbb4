// Lets the browser save a file on the user's disk.
// The name may come from a box: the browser replaces characters that are not safe for the disk.

/** How long the content is kept for the browser to write it, in milliseconds. A slow disk needs time. */
const keptMs = 60_000;

export function saveFile(content: Blob, name: string): void {
  const url = URL.createObjectURL(content);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => {
    URL.revokeObjectURL(url);
  }, keptMs);
}
