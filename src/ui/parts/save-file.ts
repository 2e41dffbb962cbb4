// Gives a file to the browser to save. The name is the last part of a path; the browser makes it safe for the disk.
// Used by downloads from boxes and of output.

/** The object is kept for as long as a slow disk may need (milliseconds). */
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
