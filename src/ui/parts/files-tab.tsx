// The tab `files` of a box: shows a directory, uploads files that the user drops or chooses into it, downloads and
// removes files. Transfers go on when the user looks at another view.
import { useState } from 'preact/hooks';
import type { Box } from '../../sdk/browser.ts';
import { boxTitle } from '../live/box-actions.ts';
import { boxrun, describeError } from '../live/client.ts';
import { createStore, useStore, type Store } from '../live/store.ts';
import { showError } from '../live/notices.ts';
import { Button, Dialog, EmptyNote, ErrorNote, Field } from './basics.tsx';
import { FileList } from './file-list.tsx';
import { formatBytes } from './format.ts';
import { saveFile } from './save-file.ts';

interface Transfer {
  readonly id: number;
  readonly boxId: string;
  readonly text: string;
  readonly status: 'running' | 'succeeded' | 'failed';
  readonly detail: string;
}

const transfers: Store<readonly Transfer[]> = createStore<readonly Transfer[]>([]);
const transfersShownMax = 50;
let nextId = 1;

export function FilesTab({ box }: { readonly box: Box }) {
  const own = useStore(transfers).filter(({ boxId }) => boxId === box.id);
  const [directory, setDirectory] = useState(box.workdir);
  const [listed, setListed] = useState(box.workdir);
  const [removed, setRemoved] = useState<string | null>(null);
  const open = (path: string): void => {
    setDirectory(path);
    setListed(path);
  };
  if (box.status !== 'running') {
    return (
      <EmptyNote title="The box does not run">
        <p>Start the box to upload or download files.</p>
      </EmptyNote>
    );
  }
  return (
    <>
      <div class="files">
        <Upload
          box={box}
          directory={directory}
          onType={setDirectory}
          onChosen={() => {
            setListed(directory);
          }}
        />
        <Download box={box} />
      </div>
      <ul class="transfers" aria-live="polite" aria-label="Transfers">
        {own.map(({ id, text, status, detail }) => (
          <li key={id}>
            <span class={`status ${status}`}>
              {status === 'running' ? 'in progress' : status === 'succeeded' ? 'done' : 'failed'}
            </span>{' '}
            {text}
            {detail === '' ? '' : `: ${detail}`}
          </li>
        ))}
      </ul>
      <FileList
        // A transfer that ends may have made the directory.
        key={own.filter(({ status }) => status !== 'running').length}
        box={box}
        directory={listed}
        onOpen={open}
        onDownload={(path) => {
          void download(box, path);
        }}
        onRemove={setRemoved}
      />
      {removed === null ? null : (
        <RemoveDialog
          box={box}
          path={removed}
          onClose={() => {
            setRemoved(null);
          }}
        />
      )}
    </>
  );
}

function RemoveDialog({
  box,
  path,
  onClose,
}: {
  readonly box: Box;
  readonly path: string;
  readonly onClose: () => void;
}) {
  const remove = (): void => {
    onClose();
    boxrun
      .files(box.id)
      .remove(path, { recursive: true })
      .catch((error: unknown) => {
        showError('Remove', error);
      });
  };
  return (
    <Dialog title="Remove a file?" onClose={onClose}>
      <p>
        <span class="mono">{path}</span> is removed from the box. A directory goes with everything in it.
      </p>
      <div class="dialog-foot">
        <Button onClick={onClose}>Keep</Button>
        <Button kind="danger" onClick={remove}>
          Remove
        </Button>
      </div>
    </Dialog>
  );
}

/** Downloads a file of the box and lets the browser save it. */
function download(box: Box, path: string): Promise<void> {
  return track(box.id, `${path} from ${boxTitle(box)}`, async () => {
    const { body } = await boxrun.download(box.id, path);
    const content = await new Response(body).blob();
    saveFile(content, path.split('/').pop() ?? 'file');
    return formatBytes(content.size);
  });
}

interface UploadProps {
  readonly box: Box;
  readonly directory: string;
  readonly onType: (directory: string) => void;
  /** The user has typed the whole name. */
  readonly onChosen: () => void;
}

function Upload({ box, directory, onType, onChosen }: UploadProps) {
  const [isOver, setOver] = useState(false);
  const send = (files: FileList | null): void => {
    for (const file of files ?? []) {
      const path = `${directory.replace(/\/+$/, '')}/${file.name}`;
      void track(box.id, `${file.name} to ${path}`, async () => {
        await boxrun.upload(box.id, file, path);
        return formatBytes(file.size);
      });
    }
  };
  return (
    <section
      class={`card drop ${isOver ? 'over' : ''}`}
      aria-label="Upload"
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => {
        setOver(false);
      }}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        send(event.dataTransfer?.files ?? null);
      }}
    >
      <h2>Upload</h2>
      <Field label="Directory in the box" hint="Created if it is missing">
        {(ids) => (
          <input
            {...ids}
            class="mono"
            spellcheck={false}
            value={directory}
            onInput={(event) => {
              onType(event.currentTarget.value);
            }}
            onChange={onChosen}
          />
        )}
      </Field>
      <Field label="Files">
        {(ids) => (
          <input
            {...ids}
            type="file"
            multiple
            onChange={(event) => {
              send(event.currentTarget.files);
              event.currentTarget.value = '';
            }}
          />
        )}
      </Field>
      <p class="hint">Or drop them here.</p>
    </section>
  );
}

function Download({ box }: { readonly box: Box }) {
  const [path, setPath] = useState('');
  const [error, setError] = useState<unknown>(null);
  const start = (): void => {
    if (!path.startsWith('/')) {
      setError(new Error('The path must begin with /'));
      return;
    }
    setError(null);
    void download(box, path);
  };
  return (
    <section class="card" aria-label="Download">
      <h2>Download</h2>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          start();
        }}
      >
        <Field label="Path in the box">
          {(ids) => (
            <input
              {...ids}
              class="mono"
              required
              placeholder="/etc/os-release"
              spellcheck={false}
              value={path}
              onInput={(event) => {
                setPath(event.currentTarget.value);
              }}
            />
          )}
        </Field>
        {error === null ? null : <ErrorNote error={error} />}
        <Button type="submit" kind="primary">
          Download
        </Button>
      </form>
    </section>
  );
}

/** Runs a transfer and shows its state in the list. `work` returns a text for its success. */
async function track(boxId: string, text: string, work: () => Promise<string>): Promise<void> {
  const transfer: Transfer = { id: nextId++, boxId, text, status: 'running', detail: '' };
  const update = (changed: Transfer): void => {
    transfers.set(transfers.get().map((each) => (each.id === changed.id ? changed : each)));
  };
  transfers.set([transfer, ...transfers.get()].slice(0, transfersShownMax));
  try {
    update({ ...transfer, status: 'succeeded', detail: await work() });
  } catch (error) {
    update({ ...transfer, status: 'failed', detail: describeError(error).message });
  }
}
