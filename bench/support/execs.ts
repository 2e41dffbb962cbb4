// Runs commands through the server under test.
// Each call waits until the command has ended.
import type { Exec } from '../../src/shared/api.ts';
import { callJson, type Connection } from './http.ts';

/** Runs `cmd` to its end. @throws when it does not succeed */
export async function runExec(
  connection: Connection,
  boxId: string,
  cmd: readonly string[] = ['/bin/true'],
): Promise<void> {
  const path = `/v1/boxes/${boxId}/exec`;
  let exec = await callJson<Exec>(connection, 'POST', path, { cmd });
  if (exec.status === 'running') exec = await callJson<Exec>(connection, 'GET', `${path}/${exec.id}?wait=60`);
  if (exec.status !== 'succeeded')
    throw new Error(`${cmd.join(' ')} ended as ${exec.status}: ${exec.error_message ?? ''}`);
}

/** Checks the exit code of the reference. @throws for any exit code other than 0 */
export function expectSuccess(exitCode: number): void {
  if (exitCode !== 0) throw new Error(`the reference ended with ${exitCode}`);
}
