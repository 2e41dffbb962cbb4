// Collects garbage when buffers outside of V8's heap pile up. V8 waits until they have grown by 64 MiB. A gateway whose
// clients do not read would then need more memory than its bound. A gateway with little in buffers is left alone.

/** Milliseconds between two looks at the buffers. */
const everyMs = 50;
/** Garbage is collected if the buffers have more than the first, and the second more than after the last collection. */
const watchedBytes = 32 * 1024 * 1024;
const growthBytes = 16 * 1024 * 1024;

export function watchGarbage(): void {
  const { gc } = globalThis as { gc?: () => void };
  let leastBytes = 0;
  const timer = setInterval(() => {
    const { external } = process.memoryUsage();
    leastBytes = Math.min(leastBytes, external);
    if (external < watchedBytes || external - leastBytes < growthBytes) return;
    gc?.();
    leastBytes = process.memoryUsage().external;
  }, everyMs);
  timer.unref();
}
