// Jobs in boxes that are found by their labels, and that are made once however often the program is run again.
import { BoxRun } from 'boxrun/sdk';

const boxrun = new BoxRun();
const jobs = ['alpha', 'beta', 'gamma'];

const start = (job) =>
  boxrun.create(
    { image: 'base', cpu: 1, memory_mb: 64, labels: { app: 'jobs', job } },
    { idempotencyKey: `${process.pid}-${job}` },
  );

for (const job of jobs) await start(job);
// As after a crash half way: nothing is made twice.
for (const job of jobs) await start(job);

let count = 0;
for await (const box of boxrun.eachBox({ labels: ['app=jobs'], limit: 2 })) {
  count++;
  console.log(box.labels.job, (await box.exec(['echo', 'done'], { idempotencyKey: `${box.id}-work` })).stdout.trim());
  await box.remove({ force: true });
}
console.log(count);
await boxrun.close();
