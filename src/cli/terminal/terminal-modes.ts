// The modes of this terminal while it is connected to one in a box: every byte passes unchanged, in both directions.
// However the program ends (but by SIGKILL), the terminal gets its own modes back.
import { runTool } from '../../shared/process/child-process.ts';

const sttyTimeoutMs = 2_000;

/** @returns what gives the terminal its own modes back */
export async function enterRawMode(stdin: NodeJS.ReadStream): Promise<() => void> {
  const restore = () => {
    stdin.setRawMode(false);
  };
  const enter = async () => {
    stdin.setRawMode(true);
    // Node's raw mode leaves output as it is: the terminal would still make CR LF of LF, and full-screen programs would
    // draw wrongly.
    await runTool('stty', ['-F', `/proc/${process.pid}/fd/0`, '-opost'], { timeoutMs: sttyTimeoutMs }).catch(
      () => undefined,
    );
  };
  // A shell that stopped us has set its own modes, and does not know ours.
  const onContinue = () => {
    restore();
    void enter();
  };
  process.once('exit', restore);
  process.on('SIGCONT', onContinue);
  await enter();
  return () => {
    process.off('exit', restore);
    process.off('SIGCONT', onContinue);
    restore();
  };
}
