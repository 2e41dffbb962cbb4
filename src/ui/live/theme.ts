// Light or dark: as the system says, or as chosen here, which this browser then remembers.
// Style sheets follow the colour scheme of the document; canvases follow this.
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
    // Storage may be forbidden: the choice then lasts as long as the page.
  }
}

/** A colour of the style sheets, for what they do not reach. @param name such as `--text` */
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
