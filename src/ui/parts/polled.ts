// A hook for what is asked again and again while a tab is open, because the server sends no events about it.
// The next question comes some time after the answer, so a slow server is not asked twice at once.
import { useEffect, useState } from 'preact/hooks';

const pauseMs = 2_000;

/**
 * The latest answer about a box, and the error of the latest question.
 * @param ask is not called while the box does not run
 */
export function usePolled<T>(
  box: string,
  isRunning: boolean,
  ask: (box: string, signal: AbortSignal) => Promise<T>,
): { readonly answer: T | null; readonly error: unknown } {
  const [answer, setAnswer] = useState<T | null>(null);
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    if (!isRunning) return undefined;
    const left = new AbortController();
    let timer: number | undefined;
    const again = async (): Promise<void> => {
      try {
        const found = await ask(box, left.signal);
        setAnswer(() => found);
        setError(null);
      } catch (problem) {
        if (!left.signal.aborted) setError(problem);
      }
      if (!left.signal.aborted) timer = window.setTimeout(() => void again(), pauseMs);
    };
    void again();
    return () => {
      left.abort();
      window.clearTimeout(timer);
    };
  }, [box, isRunning, ask]);
  return { answer, error };
}
