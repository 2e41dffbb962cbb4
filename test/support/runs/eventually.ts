// Waiting in tests for what can be seen only by looking at it again and again. Every wait has a deadline, and a wait
// that fails says what did not come.

const pauseMs = 5;

/**
 * Waits until `condition` gives something, and gives that.
 * @throws after `timeoutMs` milliseconds, naming `what`
 */
export async function eventually<T>(
  what: string,
  condition: () => T | null | undefined | false | Promise<T | null | undefined | false>,
  timeoutMs = 10_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value !== null && value !== undefined && value !== false) return value;
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}
