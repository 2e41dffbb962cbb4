// The keys of the page: single letters do something only where nobody is typing and no dialog is open.
// Each view names its own; those with Ctrl or Alt are left to the browser.
import { useEffect } from 'preact/hooks';

export type Keys = Readonly<Record<string, (event: KeyboardEvent) => void>>;

/** Keys by their name (`/`, `c`, `ArrowDown`), for as long as the part that names them is shown. */
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
