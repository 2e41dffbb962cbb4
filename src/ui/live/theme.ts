// The theme: light or dark. It is the user's choice, which the browser stores, or else the setting of the system.
// Style sheets follow the colour scheme of the document. Canvases must read `theme`.
import { createStore, type Store } from './store.ts';

export type Theme = 'light' | 'dark';

const memoryKey = 'boxrun-theme';
const systemIsDark = matchMedia('(prefers-color-scheme: dark)');

export const theme: Store<Theme> = createStore<Theme>(chosen() ?? fromSystem());

export function applyTheme(): void {
  const apply = (): void => {
    document.documentElement.style.colorScheme = theme.get();
  };
  theme.subscribe(apply);
  systemIsDark.addEventListener('change', () => {
    if (chosen() === null) theme.set(fromSystem());
  });
  apply();
}

export function toggleTheme(): void {
  const next = theme.get() === 'dark' ? 'light' : 'dark';
  theme.set(next);
  try {
    localStorage.setItem(memoryKey, next);
  } catch {
    // The browser may forbid storage. Then the choice lasts as long as the page.
  }
}

/** The value of a colour of the style sheets, for canvases. @param name such as `--text` */
export function themeColour(name: string): string {
  const probe = document.createElement('i');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function fromSystem(): Theme {
  return systemIsDark.matches ? 'dark' : 'light';
}

function chosen(): Theme | null {
  try {
    const value = localStorage.getItem(memoryKey);
    return value === 'light' || value === 'dark' ? value : null;
  } catch {
    return null;
  }
}
