// Finds the rows of a long list that are on the screen, so that only these rows are drawn.
// It is for lists that scroll with the page, and whose rows all have the same height.
import type { RefObject } from 'preact';
import { useLayoutEffect, useState } from 'preact/hooks';

export interface RowWindow {
  readonly first: number;
  /** The index after the last row. */
  readonly end: number;
}

/** Rows that are drawn above and below the screen, so that scrolling and the arrow keys always find drawn rows. */
const spareRows = 12;

/** @param rowHeight in pixels */
export function useRowWindow(body: RefObject<HTMLElement | null>, count: number, rowHeight: number): RowWindow {
  const [shown, setShown] = useState<RowWindow>({ first: 0, end: Math.min(count, 60) });
  useLayoutEffect(() => {
    let frame: number | null = null;
    const measure = (): void => {
      frame = null;
      const top = body.current?.getBoundingClientRect().top ?? 0;
      const first = clamp(Math.floor(-top / rowHeight) - spareRows, count);
      const end = clamp(Math.ceil((innerHeight - top) / rowHeight) + spareRows, count);
      setShown((before) => (before.first === first && before.end === end ? before : { first, end }));
    };
    const measureNextFrame = (): void => {
      frame ??= requestAnimationFrame(measure);
    };
    measure();
    addEventListener('scroll', measureNextFrame, { passive: true });
    addEventListener('resize', measureNextFrame);
    return () => {
      removeEventListener('scroll', measureNextFrame);
      removeEventListener('resize', measureNextFrame);
      if (frame !== null) cancelAnimationFrame(frame);
    };
  }, [body, count, rowHeight]);
  return { first: clamp(shown.first, count), end: clamp(shown.end, count) };
}

function clamp(value: number, count: number): number {
  return Math.max(0, Math.min(count, value));
}
