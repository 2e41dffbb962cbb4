// The route of the dashboard: which view is shown. It is the part of the address after `#`, which browsers do not send
// to the server. So each view has a link, and Back and Forward of the browser work.
import { createStore, type Store } from './live/store.ts';

export const boxTabs = ['commands', 'terminal', 'files', 'processes', 'ports', 'details'] as const;
export type BoxTab = (typeof boxTabs)[number];

export type Route =
  | { readonly view: 'boxes' }
  | { readonly view: 'box'; readonly box: string; readonly tab: BoxTab }
  | { readonly view: 'exec'; readonly box: string; readonly exec: string };

/** The route that the part of an address after `#` names. An unknown one gives the list of boxes. */
export function parseRoute(hash: string): Route {
  const [first, box, third, exec] = hash.replace(/^#\/?/, '').split('/').map(decode);
  if (first !== 'boxes' || box === undefined || box === '') return { view: 'boxes' };
  if (third === 'exec' && exec !== undefined && exec !== '') return { view: 'exec', box, exec };
  return { view: 'box', box, tab: boxTabs.find((tab) => tab === third) ?? 'commands' };
}

export function hrefOf(route: Route): string {
  if (route.view === 'boxes') return '#/';
  const box = `#/boxes/${encodeURIComponent(route.box)}`;
  return route.view === 'box' ? `${box}/${route.tab}` : `${box}/exec/${encodeURIComponent(route.exec)}`;
}

export const route: Store<Route> = createStore(parseRoute(globalThis.location?.hash ?? ''));

/** Keeps `route` equal to the address from now on. */
export function followAddress(): void {
  addEventListener('hashchange', () => {
    route.set(parseRoute(location.hash));
    scrollTo(0, 0);
  });
}

export function goTo(target: Route): void {
  location.hash = hrefOf(target);
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // The part is not valid percent-encoding, so it is used unchanged.
  }
}
