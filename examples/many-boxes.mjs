// Counts words in parallel, each text in a box of its own, so that none sees the others.
import { BoxRun } from 'boxrun/sdk';

const texts = ['one', 'one two', 'one two three', 'one two three four'];

const boxrun = new BoxRun();
const counts = await Promise.all(
  texts.map(async (text) => {
    const box = await boxrun.create({ image: 'base', cpu: 1, memory_mb: 64, env: { TEXT: text } });
    try {
      const { stdout } = await box.exec(['sh', '-c', 'echo "$TEXT" | wc -w']);
      return Number(stdout);
    } finally {
      await box.remove({ force: true });
    }
  }),
);
console.log(counts.join(' '));
await boxrun.close();
