// The modes of this terminal while it is connected to a terminal in a box: every byte passes unchanged, both ways.
// The old modes are restored however the program ends, except by SIGKILL.
import { runTool } from '../../shared/process/child-process.ts';

const sttyTimeoutMs = 2_000;

/** Enters raw mode. @returns a function that restores the old modes */
export async function enterRawMode(stdin: NodeJS.ReadStream): Promise<() => void> {
  const restore = () => {
    stdin.setRawMode(false);
  };
  const enter = async () => {
    stdin.setRawMode(true);
    // Node's raw mode changes only the input. Without `-opost` the terminal would turn LF into CR LF, and full-screen
    // programs would draw wrongly.
    await runTool('stty', ['-F', `/proc/${process.pid}/fd/0`, '-opost'], { timeoutMs: sttyTimeoutMs }).catch(
      () => undefined,
    );
  };
  // While we were stopped (SIGSTOP), the shell has set its own modes. Raw mode must be entered again.
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
