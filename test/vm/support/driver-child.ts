// A process that owns a running box until it is killed. Arguments: the state directory, the id of the box, the image.
// It leaves a running command, and the background child of a command that has ended.
import type { ImageSource } from '../../../src/shared/images/source.ts';
import { createAndStart, makeBox, request, run } from './boxlite-box.ts';

const [dir = '', boxId = '', image = ''] = process.argv.slice(2);
const box = makeBox(dir, boxId, JSON.parse(image) as ImageSource);
await createAndStart(box);
await box.driver.exec(request(['/tool/busybox', 'sleep', '2222']));
const finished = await box.driver.exec({
  ...request(['/tool/busybox', 'sh', '-c', '/tool/busybox setsid /tool/busybox sleep 3333 &']),
  execId: 'exec_finished',
});
await finished.exit;
const { stdout } = await run(box, ['/tool/busybox', 'cat', '/proc/sys/kernel/random/boot_id']);
process.send?.({ bootId: stdout });
setInterval(() => undefined, 60_000);
