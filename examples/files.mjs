// Brings a file into a box, has it sorted there, and takes the result out. Files are streamed, whatever their size.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BoxRun } from 'boxrun/sdk';

const directory = await mkdtemp(join(tmpdir(), 'example-'));
await writeFile(join(directory, 'fruit.txt'), 'pear\napple\nquince\n');

const boxrun = new BoxRun();
const box = await boxrun.create({ image: 'base', cpu: 1, memory_mb: 128 });
try {
  await box.upload(join(directory, 'fruit.txt'), '/root/fruit.txt');
  await box.exec(['sort', '-o', '/root/sorted.txt', '/root/fruit.txt']);
  const download = await box.download('/root/sorted.txt');
  console.log(download.size, 'bytes');
  await download.saveTo(join(directory, 'sorted.txt'));
  console.log(await readFile(join(directory, 'sorted.txt'), 'utf8'));
} finally {
  await box.remove({ force: true });
  await boxrun.close();
  await rm(directory, { recursive: true });
}
