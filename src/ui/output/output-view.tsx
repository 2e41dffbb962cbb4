// The output of a command: its lines, of which only those on the screen are drawn, so that a million are as smooth as
// ten. Follows the end until one scrolls up; finds text; wraps lines or lets them be long. stderr is marked by more
// than its colour.
import { useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState } from 'preact/hooks';
import { Button } from '../parts/basics.tsx';
import { useKeys } from '../live/keys.ts';
import type { ExecOutput } from './exec-output.ts';
import { OutputLine } from './output-line.tsx';
import { createRowLayout } from './row-layout.ts';
import { createSearch, type Search } from './search.ts';

/** As in output.css. */
const rowPx = 17;
const gutterColumns = 9;
const spareRows = 20;
/** Milliseconds of a frame that a search may take. */
const searchBudgetMs = 8;

export function OutputView({ output, onDownload }: { readonly output: ExecOutput; readonly onDownload: () => void }) {
  const { lines, version } = output;
  const [isFollowing, setFollowing] = useState(true);
  const [isWrapped, setWrapped] = useState(false);
  const [wanted, setWanted] = useState('');
  const [at, setAt] = useState<number | null>(null);
  const view = useRef<HTMLDivElement>(null);
  const search = useSearch(output, wanted);
  const place = usePlace(view);
  const layout = useMemo(
    () => createRowLayout(lines, isWrapped ? Math.max(20, place.columns - gutterColumns - 1) : null),
    [lines, isWrapped, place.columns],
  );
  layout.update();
  useLayoutEffect(() => {
    const element = view.current;
    if (element !== null && isFollowing) element.scrollTop = element.scrollHeight;
  }, [version, isFollowing, isWrapped, place.columns]);

  /** Shows a match: the one `by` further than the last one, around the ends. */
  const step = (by: 1 | -1): void => {
    const { matches } = search;
    if (matches.length === 0) return;
    const next = at === null ? (by === 1 ? 0 : matches.length - 1) : (at + by + matches.length) % matches.length;
    setAt(next);
    setFollowing(false);
    const row = layout.rowOf(Math.max(0, (matches[next] ?? 0) - lines.dropped));
    view.current?.scrollTo({ top: row * rowPx - view.current.clientHeight / 2 });
  };

  const firstRow = Math.max(0, Math.floor(place.top / rowPx) - spareRows);
  const first = Math.min(layout.lineAt(firstRow), lines.count);
  const lastRow = Math.floor((place.top + place.height) / rowPx) + spareRows;
  const end = Math.min(lines.count, layout.lineAt(lastRow) + 1);
  const found = at === null ? null : search.matches[at];
  return (
    <section class="output" aria-label="Output">
      <div class="toolbar">
        <SearchBar
          wanted={wanted}
          step={step}
          found={at === null ? `${search.matches.length} lines` : `${at + 1} of ${search.matches.length}`}
          onWanted={(text) => {
            setWanted(text);
            setAt(null);
          }}
        />
        <Button
          pressed={isFollowing}
          onClick={() => {
            setFollowing(!isFollowing);
          }}
        >
          Follow
        </Button>
        <Button
          pressed={isWrapped}
          onClick={() => {
            setWrapped(!isWrapped);
          }}
        >
          Wrap
        </Button>
        <Button onClick={onDownload}>Download</Button>
      </div>
      {lines.dropped === 0 ? null : (
        <p class="note">
          The first {lines.dropped.toLocaleString()} lines are not shown any more. Download has all of them.
        </p>
      )}
      <div
        ref={view}
        class="output-lines"
        tabIndex={0}
        role="log"
        aria-label="Lines"
        aria-live="off"
        onScroll={(event) => {
          const { scrollTop, clientHeight, scrollHeight } = event.currentTarget;
          const isAtEnd = scrollTop + clientHeight >= scrollHeight - rowPx;
          // Only a person scrolls up; new lines and following move it down.
          if (scrollTop < place.top && !isAtEnd) setFollowing(false);
          else if (isAtEnd && scrollTop > place.top) setFollowing(true);
          place.measure();
        }}
      >
        <div
          class="output-space"
          style={{
            height: `${layout.rows * rowPx}px`,
            width: isWrapped ? '100%' : `${lines.longest + gutterColumns + 2}ch`,
          }}
        >
          {Array.from({ length: Math.max(0, end - first) }, (_, offset) => {
            const index = first + offset;
            return (
              <OutputLine
                key={lines.dropped + index}
                line={lines.line(index)}
                number={lines.dropped + index + 1}
                top={layout.rowOf(index) * rowPx}
                height={layout.rowsOf(index) * rowPx}
                isWrapped={isWrapped}
                wanted={search.text}
                isFound={lines.dropped + index === found}
              />
            );
          })}
        </div>
      </div>
    </section>
  );
}

interface SearchBarProps {
  readonly wanted: string;
  /** Which match of how many. */
  readonly found: string;
  readonly onWanted: (text: string) => void;
  readonly step: (by: 1 | -1) => void;
}

function SearchBar({ wanted, found, onWanted, step }: SearchBarProps) {
  const input = useRef<HTMLInputElement>(null);
  useKeys({
    '/': (event) => {
      event.preventDefault();
      input.current?.focus();
    },
  });
  return (
    <>
      <input
        ref={input}
        type="search"
        class="grow"
        placeholder="Search the output"
        aria-label="Search the output"
        aria-keyshortcuts="/"
        value={wanted}
        onInput={(event) => {
          onWanted(event.currentTarget.value);
        }}
        onKeyDown={(event) => {
          if (event.key === 'Enter') step(event.shiftKey ? -1 : 1);
          if (event.key === 'Escape') event.currentTarget.blur();
        }}
      />
      {wanted === '' ? null : (
        <span class="found">
          <span role="status">{found}</span>
          <Button
            label="Previous match"
            onClick={() => {
              step(-1);
            }}
          >
            ↑
          </Button>
          <Button
            label="Next match"
            onClick={() => {
              step(1);
            }}
          >
            ↓
          </Button>
        </span>
      )}
    </>
  );
}

interface Place {
  readonly top: number;
  readonly height: number;
  /** Characters in a row. */
  readonly columns: number;
  measure(): void;
}

/** What of the view is on the screen. */
function usePlace(view: { readonly current: HTMLElement | null }): Place {
  const [place, setPlace] = useState({ top: 0, height: 600, columns: 80 });
  const measure = (): void => {
    const element = view.current;
    if (element === null) return;
    const { scrollTop: top, clientHeight: height } = element;
    const columns = Math.floor(element.clientWidth / characterWidth(element));
    setPlace((before) =>
      before.top === top && before.height === height && before.columns === columns ? before : { top, height, columns },
    );
  };
  useLayoutEffect(() => {
    measure();
    if (view.current === null) return undefined;
    const observer = new ResizeObserver(measure);
    observer.observe(view.current);
    return () => {
      observer.disconnect();
    };
  }, []);
  return { ...place, measure };
}

let knownWidth: number | null = null;

function characterWidth(element: HTMLElement): number {
  if (knownWidth !== null) return knownWidth;
  const context = document.createElement('canvas').getContext('2d');
  if (context === null) return 8;
  const { font } = getComputedStyle(element);
  context.font = font;
  return (knownWidth = context.measureText('0'.repeat(100)).width / 100);
}

/** Looks through what is there, frame by frame, and through what comes. */
function useSearch({ lines, version }: ExecOutput, wanted: string): Search {
  const search = useMemo(() => createSearch(lines, wanted), [lines, wanted]);
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  useEffect(() => {
    if (wanted === '') return undefined;
    let frame = requestAnimationFrame(function look() {
      const before = search.matches.length;
      const isMore = search.advance(searchBudgetMs);
      if (isMore) frame = requestAnimationFrame(look);
      if (isMore || search.matches.length !== before) redraw(0);
    });
    return () => {
      cancelAnimationFrame(frame);
    };
  }, [search, version, wanted]);
  return search;
}
