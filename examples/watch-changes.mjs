// Watches what happens on a server while a box lives: no polling, and nothing is missed between the list and the
// changes.
import { BoxRun } from 'boxrun/sdk';

const boxrun = new BoxRun();
const names = new Map();
let life;

for await (const event of boxrun.events()) {
  if (event.type === 'ready' || event.type === 'reset') {
    names.clear();
    for await (const box of boxrun.eachBox()) names.set(box.id, box.name);
    console.log(`${names.size} boxes at first`);
    if (event.type === 'ready') life = live();
  } else if (event.type === 'exec.finished') {
    console.log(`${names.get(event.exec.box_id)}: '${event.exec.cmd.join(' ')}' ended with ${event.exec.exit_code}`);
  } else if (event.type === 'box.created') {
    names.set(event.box.id, event.box.name);
    console.log(`${event.box.name}: created`);
  } else if (event.type === 'box.removed') {
    console.log(`${event.box.name}: removed`);
    break;
  }
}
await life;
await boxrun.close();

async function live() {
  const box = await boxrun.create({ image: 'base', name: 'mayfly', cpu: 1, memory_mb: 128 });
  await box.exec(['sh', '-c', 'exit 3']);
  await box.remove({ force: true });
}
