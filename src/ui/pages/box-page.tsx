// The page of one box, with a tab each for its commands, terminals, files, processes, ports and details. It shows
// changes of the box as they happen, and says so if the box was removed. `Esc` goes back to the list of boxes.
import { useEffect, useState } from 'preact/hooks';
import type { Box } from '../../sdk/browser.ts';
import { boxActions, boxTitle, busyBoxes, type BoxAction } from '../live/box-actions.ts';
import { changes } from '../live/changes.ts';
import { useKeys } from '../live/keys.ts';
import { useStore } from '../live/store.ts';
import { boxTabs, goTo, hrefOf, type BoxTab } from '../router.ts';
import { Button, EmptyNote, LoadingNote, Status } from '../parts/basics.tsx';
import { BoxDetails } from '../parts/box-details.tsx';
import { ConfirmDialog } from '../parts/confirm.tsx';
import { ExecsTab } from '../parts/execs-tab.tsx';
import { FilesTab } from '../parts/files-tab.tsx';
import { PortsTab } from '../parts/ports-tab.tsx';
import { ProcessesTab } from '../parts/processes-tab.tsx';
import { TerminalTab } from '../parts/terminal-tab.tsx';

export function BoxPage({ id, tab }: { readonly id: string; readonly tab: BoxTab }) {
  const boxes = useStore(changes.boxes);
  const connection = useStore(changes.connection);
  // A link may contain the name of the box instead of its id.
  const box = boxes.get(id) ?? [...boxes.values()].find(({ name }) => name === id);
  const [lastKnown, setLastKnown] = useState<Box | null>(box ?? null);
  useEffect(() => {
    if (box !== undefined) setLastKnown(box);
  }, [box]);
  useKeys({
    Escape: () => {
      goTo({ view: 'boxes' });
    },
  });

  if (box === undefined && connection === 'loading')
    return (
      <main id="main">
        <LoadingNote what="the box" />
      </main>
    );
  if (box === undefined) {
    return <MissingBox title={lastKnown === null ? id : boxTitle(lastKnown)} wasRemoved={lastKnown !== null} />;
  }
  return (
    <main id="main">
      <BoxHead box={box} />
      <nav class="tabs" aria-label="Views of this box">
        {boxTabs.map((each) => (
          <a
            key={each}
            href={hrefOf({ view: 'box', box: box.id, tab: each })}
            aria-current={each === tab ? 'page' : undefined}
          >
            {each}
          </a>
        ))}
      </nav>
      <BoxTabContent box={box} tab={tab} />
    </main>
  );
}

function BoxTabContent({ box, tab }: { readonly box: Box; readonly tab: BoxTab }) {
  if (tab === 'terminal') return <TerminalTab box={box} />;
  if (tab === 'files') return <FilesTab box={box} />;
  if (tab === 'processes') return <ProcessesTab box={box} />;
  if (tab === 'ports') return <PortsTab box={box} />;
  if (tab === 'details') return <BoxDetails box={box} />;
  return <ExecsTab box={box} />;
}

function BoxHead({ box }: { readonly box: Box }) {
  const busy = useStore(busyBoxes).get(box.id) ?? null;
  const [toConfirm, setToConfirm] = useState<BoxAction | null>(null);
  return (
    <header class="page-head">
      <p class="crumbs">
        <a href={hrefOf({ view: 'boxes' })}>Boxes</a>
      </p>
      <div class="head-line">
        <h1>{boxTitle(box)}</h1>
        <Status status={busy ?? box.status} />
        <span class="grow" />
        {(['start', 'stop', 'remove'] as const)
          .filter((action) => boxActions[action].fits(box))
          .map((action) => (
            <Button
              key={action}
              kind={action === 'remove' ? 'danger' : 'plain'}
              disabled={busy !== null}
              onClick={() => {
                setToConfirm(action);
              }}
            >
              {boxActions[action].verb}
            </Button>
          ))}
      </div>
      {box.error_message === null ? null : (
        <p class="note error">
          {box.error_message} {box.error_code === null ? null : <span class="code">{box.error_code}</span>}
        </p>
      )}
      {toConfirm === null ? null : (
        <ConfirmDialog
          action={toConfirm}
          boxes={[box]}
          onClose={() => {
            setToConfirm(null);
          }}
        />
      )}
    </header>
  );
}

function MissingBox({ title, wasRemoved }: { readonly title: string; readonly wasRemoved: boolean }) {
  return (
    <main id="main">
      <h1 class="unseen">{title}</h1>
      <EmptyNote title={wasRemoved ? `${title} was removed` : `There is no box ${title}`}>
        <p>
          <a href={hrefOf({ view: 'boxes' })}>To all boxes</a>
        </p>
      </EmptyNote>
    </main>
  );
}
