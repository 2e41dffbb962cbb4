// Runs a command in a new box, and tells how it ended. With a server running: node examples/run-command.mjs
import { BoxRun } from 'boxrun/sdk';

const boxrun = new BoxRun();
const box = await boxrun.create({ image: 'base', cpu: 1, memory_mb: 128 });
try {
  const result = await box.exec(['sh', '-c', 'echo "I am $(whoami)"; echo oops >&2; exit 3']);
  console.log('exit code', result.exitCode);
  console.log('stdout', JSON.stringify(result.stdout));
  console.log('stderr', JSON.stringify(result.stderr));
} finally {
  await box.remove({ force: true });
  await boxrun.close();
}
