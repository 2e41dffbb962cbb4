// Which rows of a long list are on the screen, so that only these are drawn: 500 boxes cost as much as 30.
// Used by lists that scroll with the page; their rows are all of one height.
import type { RefObject } from 'preact';
import { useLayoutEffect, useState } from 'preact/hooks';

export interface RowWindow {
  readonly first: number;
  /** Behind the last one. */
  readonly end: number;
}

/** Rows drawn beyond both edges, so that scrolling and the arrow keys meet no gap. */
const spareRows = 12;

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
    const later = (): void => {
      frame ??= requestAnimationFrame(measure);
    };
    measure();
    addEventListener('scroll', later, { passive: true });
    addEventListener('resize', later);
    return () => {
      removeEventListener('scroll', later);
      removeEventListener('resize', later);
      if (frame !== null) cancelAnimationFrame(frame);
    };
  }, [body, count, rowHeight]);
  return { first: clamp(shown.first, count), end: clamp(shown.end, count) };
}

function clamp(value: number, count: number): number {
  return Math.max(0, Math.min(count, value));
}
