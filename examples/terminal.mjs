// Opens a terminal in a box, types into it, and shows what it shows.
import { BoxRun } from 'boxrun/sdk';

const boxrun = new BoxRun();
const box = await boxrun.create({ image: 'base', cpu: 1, memory_mb: 128 });
try {
  const terminal = await box.attach({ shell: '/bin/sh', cols: 100, rows: 30 });
  await terminal.write('stty size\n');
  await terminal.write('exit 7\n');
  const decoder = new TextDecoder();
  for await (const bytes of terminal.output) process.stdout.write(decoder.decode(bytes, { stream: true }));
  const { exitCode } = await terminal.exited;
  console.log('\nthe shell exited with', exitCode);
} finally {
  await box.remove({ force: true });
  await boxrun.close();
}
