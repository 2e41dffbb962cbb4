// The form of a new box: what it is made of, the stages while it is made, and the error with its hint where that fails.
// Opened by the page of boxes. Closing it while a create runs leaves the create to the server.
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Progress } from '../../sdk/browser.ts';
import { changes } from '../live/changes.ts';
import { boxrun } from '../live/client.ts';
import { boxTitle } from '../live/box-actions.ts';
import { tell } from '../live/notices.ts';
import { goTo } from '../router.ts';
import { Button, Dialog, ErrorNote, Field } from './basics.tsx';
import { createInputOf, emptyFields, type CreateFields } from './create-input.ts';

type Phase =
  | { readonly kind: 'editing'; readonly error: unknown }
  | { readonly kind: 'creating'; readonly stages: readonly Progress[] };

export function CreateDialog({ onClose }: { readonly onClose: () => void }) {
  const [fields, setFields] = useState<CreateFields>(emptyFields);
  const [phase, setPhase] = useState<Phase>({ kind: 'editing', error: null });
  const isOpen = useRef(true);
  const close = (): void => {
    isOpen.current = false;
    onClose();
  };

  async function create(): Promise<void> {
    const stages: Progress[] = [];
    try {
      const input = createInputOf(fields);
      setPhase({ kind: 'creating', stages });
      const box = await boxrun.create(input, {
        onProgress(progress) {
          stages.push(progress);
          setPhase({ kind: 'creating', stages: [...stages] });
        },
      });
      rememberImage(input.image);
      tell(`${boxTitle(box)} created`);
      if (!isOpen.current) return;
      close();
      goTo({ view: 'box', box: box.id, tab: 'commands' });
    } catch (error) {
      setPhase({ kind: 'editing', error });
    }
  }

  return (
    <Dialog title="Create a box" onClose={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void create();
        }}
      >
        <fieldset disabled={phase.kind === 'creating'}>
          <legend class="unseen">The new box</legend>
          <CreateFieldset
            fields={fields}
            onChange={(change) => {
              setFields({ ...fields, ...change });
            }}
          />
        </fieldset>
        {phase.kind === 'creating' ? <Stages stages={phase.stages} /> : null}
        {phase.kind === 'editing' && phase.error !== null ? <ErrorNote error={phase.error} /> : null}
        <div class="dialog-foot">
          <Button onClick={close}>{phase.kind === 'creating' ? 'Close, create goes on' : 'Cancel'}</Button>
          <Button type="submit" kind="primary" disabled={phase.kind === 'creating'}>
            Create
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function Stages({ stages }: { readonly stages: readonly Progress[] }) {
  const last = stages.at(-1);
  return (
    <div class="stages" role="status">
      <progress aria-label="The box is being created" />
      <ol>
        {stages.slice(-5).map((stage, at) => (
          <li key={`${stages.length} ${at}`} class={stage === last ? 'now' : ''}>
            {stage.message}
          </li>
        ))}
      </ol>
      {stages.length === 0 ? <p>Creating …</p> : null}
    </div>
  );
}

interface FieldsetProps {
  readonly fields: CreateFields;
  readonly onChange: (change: Partial<CreateFields>) => void;
}

function CreateFieldset({ fields, onChange }: FieldsetProps) {
  const images = useKnownImages();
  const number = (name: 'cpu' | 'memoryMb' | 'diskGb', label: string) => (
    <Field label={label}>
      {(ids) => (
        <input
          {...ids}
          type="number"
          min="1"
          required
          value={fields[name]}
          onInput={(event) => {
            onChange({ [name]: event.currentTarget.value });
          }}
        />
      )}
    </Field>
  );
  const lines = (name: 'env' | 'volumes' | 'labels', label: string, hint: string) => (
    <Field label={label} hint={hint}>
      {(ids) => (
        <textarea
          {...ids}
          rows={2}
          spellcheck={false}
          value={fields[name]}
          onInput={(event) => {
            onChange({ [name]: event.currentTarget.value });
          }}
        />
      )}
    </Field>
  );
  return (
    <>
      <div class="field-row">
        <Field label="Image" hint="Known here, or of a registry, such as ubuntu:24.04">
          {(ids) => (
            <>
              <input
                {...ids}
                required
                list="known-images"
                spellcheck={false}
                value={fields.image}
                onInput={(event) => {
                  onChange({ image: event.currentTarget.value });
                }}
              />
              <datalist id="known-images">
                {images.map((image) => (
                  <option key={image} value={image} />
                ))}
              </datalist>
            </>
          )}
        </Field>
        <Field label="Name" hint="May be left empty">
          {(ids) => (
            <input
              {...ids}
              spellcheck={false}
              maxLength={63}
              value={fields.name}
              onInput={(event) => {
                onChange({ name: event.currentTarget.value });
              }}
            />
          )}
        </Field>
      </div>
      <div class="field-row">
        {number('cpu', 'CPUs')}
        {number('memoryMb', 'Memory, MB')}
        {number('diskGb', 'Disk, GB')}
      </div>
      <label class="check wide-check">
        <input
          type="checkbox"
          checked={fields.network}
          onChange={(event) => {
            onChange({ network: event.currentTarget.checked });
          }}
        />{' '}
        Network
      </label>
      <details class="more">
        <summary>Environment, volumes, labels</summary>
        {lines('env', 'Environment', 'KEY=VALUE, one a line')}
        {lines('volumes', 'Volumes', 'HOST_PATH:PATH_IN_BOX, one a line; with :ro for reading only')}
        {lines('labels', 'Labels', 'KEY=VALUE, one a line')}
      </details>
    </>
  );
}

const imagesKey = 'boxrun-images';
const imagesMax = 12;

/** Those used before in this browser, those that the server knows by name, and those of the boxes that are there. */
function useKnownImages(): string[] {
  const [named, setNamed] = useState<readonly string[]>([]);
  useEffect(() => {
    const closed = new AbortController();
    boxrun.images({ signal: closed.signal }).then(
      ({ images, aliases }) => {
        setNamed([...images.map(({ name }) => name), ...Object.keys(aliases)]);
      },
      () => undefined, // The others can be chosen all the same.
    );
    return () => {
      closed.abort();
    };
  }, []);
  const used = [...changes.boxes.get().values()].map(({ image }) => image);
  return [...new Set([...rememberedImages(), ...named, ...used])].slice(0, 100);
}

function rememberedImages(): string[] {
  try {
    return (JSON.parse(localStorage.getItem(imagesKey) ?? '[]') as string[]).slice(0, imagesMax);
  } catch {
    return []; // Nothing is remembered where storage is forbidden.
  }
}

function rememberImage(image: string): void {
  try {
    localStorage.setItem(imagesKey, JSON.stringify([...new Set([image, ...rememberedImages()])].slice(0, imagesMax)));
  } catch {
    // As above.
  }
}
