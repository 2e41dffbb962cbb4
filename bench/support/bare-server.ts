// Runs references/bare-server.ts as a separate process while `use` measures.
// The process has ended when the function returns.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { BareServerOrders } from '../references/bare-server.ts';
import { places } from './places.ts';

export async function withBareServer<T>(orders: BareServerOrders, use: () => Promise<T>): Promise<T> {
  const child = spawn(process.execPath, [places.bareServer], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, BENCH_ORDERS: JSON.stringify(orders) },
  });
  const exited = once(child, 'exit');
  try {
    await Promise.race([
      once(child.stdout, 'data'),
      exited.then(() => {
        throw new Error('the bare server did not start');
      }),
    ]);
    return await use();
  } finally {
    child.kill('SIGTERM');
    await exited;
  }
}
