// The page of all boxes, which is the first view: totals, search and filter, the table, and actions on selected boxes.
// Keys: `/` searches, `c` creates a box, the arrows move between rows, `x` selects, `Esc` clears the selection.
import type { RefObject } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Box } from '../../sdk/browser.ts';
import { boxActions, type BoxAction } from '../live/box-actions.ts';
import { boxChoice, chooseBoxes, selectedBoxes, toggleSelected, type BoxChoice } from '../live/box-list.ts';
import { changes } from '../live/changes.ts';
import { useKeys } from '../live/keys.ts';
import { useStore } from '../live/store.ts';
import { Button, EmptyNote, LoadingNote } from '../parts/basics.tsx';
import { BoxTable } from '../parts/box-table.tsx';
import { ConfirmDialog } from '../parts/confirm.tsx';
import { CreateDialog } from '../parts/create-dialog.tsx';
import { TotalsPanel } from '../parts/totals.tsx';
import { useNow } from '../parts/use-now.ts';

const statusChoices: readonly BoxChoice['status'][] = ['all', 'running', 'creating', 'stopped', 'error'];

export function BoxesPage() {
  const connection = useStore(changes.connection);
  const boxes = useStore(changes.boxes);
  const choice = useStore(boxChoice);
  const [isCreating, setCreating] = useState(false);
  const search = useRef<HTMLInputElement>(null);
  const now = useNow();
  const shown = chooseBoxes(boxes, choice);

  useKeys({
    '/': (event) => {
      event.preventDefault();
      search.current?.focus();
    },
    c: (event) => {
      event.preventDefault();
      setCreating(true);
    },
    ArrowDown: (event) => {
      stepRow(event, 1);
    },
    ArrowUp: (event) => {
      stepRow(event, -1);
    },
    x: () => {
      const id = focusedBox();
      if (id !== null) toggleSelected(id);
    },
    Escape: () => {
      selectedBoxes.set(new Set());
    },
  });

  return (
    <main id="main">
      <h1 class="unseen">Boxes</h1>
      <TotalsPanel />
      <BoxesToolbar
        search={search}
        onCreate={() => {
          setCreating(true);
        }}
      />
      <SelectionBar boxes={boxes} />
      {connection === 'loading' ? <LoadingNote what="boxes" /> : null}
      {connection !== 'loading' && boxes.size === 0 ? (
        <EmptyNote title="No boxes yet">
          <p>
            A box is a small Linux machine of its own. Create the first one here, or with{' '}
            <code>boxrun create base</code>.
          </p>
        </EmptyNote>
      ) : null}
      {boxes.size > 0 && shown.length === 0 ? (
        <EmptyNote title="No box fits">
          <Button
            onClick={() => {
              boxChoice.set({ ...choice, text: '', status: 'all' });
            }}
          >
            Show all {boxes.size}
          </Button>
        </EmptyNote>
      ) : null}
      {shown.length > 0 ? <BoxTable boxes={shown} now={now} /> : null}
      {isCreating ? (
        <CreateDialog
          onClose={() => {
            setCreating(false);
          }}
        />
      ) : null}
    </main>
  );
}

interface BoxesToolbarProps {
  readonly search: RefObject<HTMLInputElement | null>;
  readonly onCreate: () => void;
}

function BoxesToolbar({ search, onCreate }: BoxesToolbarProps) {
  const choice = useStore(boxChoice);
  return (
    <div class="toolbar">
      <input
        ref={search}
        type="search"
        class="grow"
        placeholder="Search names, images, labels"
        aria-label="Search boxes"
        aria-keyshortcuts="/"
        value={choice.text}
        onInput={(event) => {
          boxChoice.set({ ...choice, text: event.currentTarget.value });
        }}
        onKeyDown={(event) => {
          if (event.key === 'Escape') event.currentTarget.blur();
        }}
      />
      <select
        aria-label="Status"
        value={choice.status}
        onChange={(event) => {
          boxChoice.set({ ...choice, status: event.currentTarget.value as BoxChoice['status'] });
        }}
      >
        {statusChoices.map((status) => (
          <option key={status} value={status}>
            {status === 'all' ? 'any status' : status}
          </option>
        ))}
      </select>
      <Button kind="primary" onClick={onCreate}>
        Create box
      </Button>
    </div>
  );
}

/** The number of selected boxes, and the actions that are possible on them. */
function SelectionBar({ boxes }: { readonly boxes: ReadonlyMap<string, Box> }) {
  const selected = useStore(selectedBoxes);
  const [toConfirm, setToConfirm] = useState<{ readonly action: BoxAction; readonly boxes: readonly Box[] } | null>(
    null,
  );
  useEffect(() => {
    // A removed box must not stay in the selection.
    const existing = [...selected].filter((id) => boxes.has(id));
    if (existing.length < selected.size) selectedBoxes.set(new Set(existing));
  }, [boxes, selected]);
  const chosen = [...selected].flatMap((id) => boxes.get(id) ?? []);
  return (
    <>
      {chosen.length === 0 ? null : (
        <div class="selection" role="region" aria-label="Selected boxes">
          <span role="status">{chosen.length} selected</span>
          {(['start', 'stop', 'remove'] as const).map((action) => {
            const fitting = chosen.filter(boxActions[action].fits);
            return (
              <Button
                key={action}
                kind={action === 'remove' ? 'danger' : 'plain'}
                disabled={fitting.length === 0}
                onClick={() => {
                  setToConfirm({ action, boxes: fitting });
                }}
              >
                {boxActions[action].verb}
              </Button>
            );
          })}
          <Button
            kind="quiet"
            onClick={() => {
              selectedBoxes.set(new Set());
            }}
          >
            Clear
          </Button>
        </div>
      )}
      {toConfirm === null ? null : (
        <ConfirmDialog
          {...toConfirm}
          onClose={() => {
            setToConfirm(null);
          }}
        />
      )}
    </>
  );
}

/** Moves the focus by `by` rows. If no row has the focus, moves it to the first row. */
function stepRow(event: KeyboardEvent, by: number): void {
  const current = document.activeElement?.closest('tr')?.querySelector<HTMLElement>('[data-row]')?.dataset['row'];
  const target =
    current === undefined
      ? document.querySelector<HTMLElement>('[data-row]')
      : document.querySelector<HTMLElement>(`[data-row="${Number(current) + by}"]`);
  if (target === null) return;
  event.preventDefault();
  target.focus();
}

function focusedBox(): string | null {
  return document.activeElement?.closest<HTMLElement>('tr[data-box]')?.dataset['box'] ?? null;
}
