// Shows the output of a command while it runs, and kills the command after the third line.
import { BoxRun } from 'boxrun/sdk';

const boxrun = new BoxRun();
const box = await boxrun.create({ image: 'base', cpu: 1, memory_mb: 128 });
try {
  let lines = 0;
  for await (const event of box.execStream([
    'sh',
    '-c',
    'i=1; while true; do echo "tick $i"; i=$((i + 1)); sleep 0.2; done',
  ])) {
    if (event.type !== 'log') continue;
    process.stdout.write(event.text);
    if (++lines === 3) break; // A command belongs to its loop: leaving it kills the command.
  }
  const [exec] = await box.listExecs();
  console.log('the command was', exec.status);
} finally {
  await box.remove({ force: true });
  await boxrun.close();
}
