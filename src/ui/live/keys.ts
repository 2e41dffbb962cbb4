// Keyboard shortcuts of the dashboard: single keys, while the user types in no field and no dialog is open.
// Keys with Ctrl, Alt or Meta always belong to the browser.
import { useEffect } from 'preact/hooks';

export type Keys = Readonly<Record<string, (event: KeyboardEvent) => void>>;

/** Handles `keys`, by the name of the key (`/`, `c`, `ArrowDown`), as long as the component is shown. */
export function useKeys(keys: Keys): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      if (document.querySelector('dialog[open]') !== null) return;
      keys[event.key]?.(event);
    };
    addEventListener('keydown', onKey);
    return () => {
      removeEventListener('keydown', onKey);
    };
  });
}

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.closest('input:not([type=checkbox]), textarea, select, .terminal-host') !== null ||
      target.isContentEditable)
  );
}
