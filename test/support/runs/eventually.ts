// Waits in tests by polling. Every wait has a deadline, and its error names the condition.
// Use it for conditions that send no event.

const pauseMs = 5;

/**
 * Polls `condition` until its result is not null, undefined or false. Returns that result.
 * @param what the condition in words, for the error
 * @throws after `timeoutMs` milliseconds
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
