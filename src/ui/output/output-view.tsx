// Shows the output of a command, with a search, wrapped or long lines, and a mode that follows the end until the user
// scrolls up or goes to a match. Only the lines on the screen are drawn, so that a million lines are as fast as ten.
import { useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState } from 'preact/hooks';
import { Button } from '../parts/basics.tsx';
import { useKeys } from '../live/keys.ts';
import type { ExecOutput } from './exec-output.ts';
import type { LogLines } from './log-lines.ts';
import { OutputLine } from './output-line.tsx';
import { createRowLayout, type RowLayout } from './row-layout.ts';
import { createSearch, type Search } from './search.ts';

/** Height of a row in pixels. It must be the same as in output.css. */
const rowPx = 17;
const gutterColumns = 9;
/** Rows that are drawn above and below the visible part. */
const spareRows = 20;
/** How much time of each frame a search may take, in milliseconds. */
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

  /** Shows the next (1) or previous (-1) match. After the last match comes the first one. */
  const step = (by: 1 | -1): void => {
    const { matches } = search;
    if (matches.length === 0) return;
    const next = at === null ? (by === 1 ? 0 : matches.length - 1) : (at + by + matches.length) % matches.length;
    setAt(next);
    setFollowing(false);
    const row = layout.rowOf(Math.max(0, (matches[next] ?? 0) - lines.dropped));
    view.current?.scrollTo({ top: row * rowPx - view.current.clientHeight / 2 });
  };

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
        <ToggleButton title="Follow" isOn={isFollowing} onChange={setFollowing} />
        <ToggleButton title="Wrap" isOn={isWrapped} onChange={setWrapped} />
        <Button onClick={onDownload}>Download</Button>
      </div>
      {lines.dropped === 0 ? null : (
        <p class="note">
          The first {lines.dropped.toLocaleString()} lines are no longer shown. The download has all lines.
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
          // Only the user and a step to a match scroll up. New lines and the follow mode scroll down.
          if (scrollTop < place.top && !isAtEnd) setFollowing(false);
          else if (isAtEnd && scrollTop > place.top) setFollowing(true);
          place.measure();
        }}
      >
        <VisibleLines
          lines={lines}
          layout={layout}
          place={place}
          isWrapped={isWrapped}
          wanted={search.text}
          found={at === null ? null : (search.matches[at] ?? null)}
        />
      </div>
    </section>
  );
}

interface ToggleButtonProps {
  readonly title: string;
  readonly isOn: boolean;
  readonly onChange: (isOn: boolean) => void;
}

function ToggleButton({ title, isOn, onChange }: ToggleButtonProps) {
  return (
    <Button
      pressed={isOn}
      onClick={() => {
        onChange(!isOn);
      }}
    >
      {title}
    </Button>
  );
}

interface VisibleLinesProps {
  readonly lines: LogLines;
  readonly layout: RowLayout;
  readonly place: Place;
  readonly isWrapped: boolean;
  /** In lower case. */
  readonly wanted: string;
  /** Number of the line that the search shows now. */
  readonly found: number | null;
}

/** Has the height of all lines, but draws only the lines on the screen. */
function VisibleLines({ lines, layout, place, isWrapped, wanted, found }: VisibleLinesProps) {
  const firstRow = Math.max(0, Math.floor(place.top / rowPx) - spareRows);
  const first = Math.min(layout.lineAt(firstRow), lines.count);
  const lastRow = Math.floor((place.top + place.height) / rowPx) + spareRows;
  const end = Math.min(lines.count, layout.lineAt(lastRow) + 1);
  return (
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
            wanted={wanted}
            isFound={lines.dropped + index === found}
          />
        );
      })}
    </div>
  );
}

interface SearchBarProps {
  readonly wanted: string;
  /** The position in the matches, as text. */
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

/** The visible part of the output. */
interface Place {
  /** In pixels. */
  readonly top: number;
  /** In pixels. */
  readonly height: number;
  /** Width of a row in characters. */
  readonly columns: number;
  /** Updates the other fields. */
  measure(): void;
}

/** Measures the visible part of `view`, at first and when its size changes. */
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

/** Searches the lines, a part in each frame. When new lines come, it searches them too. */
function useSearch({ lines, version }: ExecOutput, wanted: string): Search {
  const search = useMemo(() => createSearch(lines, wanted), [lines, wanted]);
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  useEffect(() => {
    if (wanted === '') return undefined;
    let frame = requestAnimationFrame(function searchOn() {
      const before = search.matches.length;
      const isMore = search.advance(searchBudgetMs);
      if (isMore) frame = requestAnimationFrame(searchOn);
      if (isMore || search.matches.length !== before) redraw(0);
    });
    return () => {
      cancelAnimationFrame(frame);
    };
  }, [search, version, wanted]);
  return search;
}
