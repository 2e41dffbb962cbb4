// The dialog that creates a box: a form, the stages while the server creates the box, and the error if that fails.
// If the user closes the dialog meanwhile, the server still creates the box, and a notice shows the result.
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Progress } from '../../sdk/browser.ts';
import { changes } from '../live/changes.ts';
import { boxrun } from '../live/client.ts';
import { goTo } from '../router.ts';
import { Button, Dialog, ErrorNote, Field } from './basics.tsx';
import { createBox } from './create-box.ts';
import { emptyFields, type CreateFields } from './create-input.ts';

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
  // The dialog also disappears when the user leaves the page, such as with the browser's Back.
  useEffect(
    () => () => {
      isOpen.current = false;
    },
    [],
  );

  async function create(): Promise<void> {
    const isCreated = await createBox(boxrun, fields, {
      isOpen: () => isOpen.current,
      showStages(stages) {
        setPhase({ kind: 'creating', stages });
      },
      showFailure(error) {
        setPhase({ kind: 'editing', error });
      },
      goToBox({ id }) {
        close();
        goTo({ view: 'box', box: id, tab: 'commands' });
      },
    });
    if (isCreated) rememberImage(fields.image.trim());
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
          <Button onClick={close}>{phase.kind === 'creating' ? 'Close (the server goes on)' : 'Cancel'}</Button>
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

interface NumberFieldProps extends FieldsetProps {
  readonly name: 'cpu' | 'memoryMb' | 'diskGb' | 'cpuLimit' | 'stopGraceS';
  readonly label: string;
  /** Without it, the field must have a whole number of at least 1. */
  readonly optional?: { readonly hint: string; readonly min: string; readonly step: string };
}

function NumberField({ name, label, optional, fields, onChange }: NumberFieldProps) {
  return (
    <Field label={label} hint={optional?.hint}>
      {(ids) => (
        <input
          {...ids}
          type="number"
          min={optional?.min ?? '1'}
          step={optional?.step ?? '1'}
          required={optional === undefined}
          value={fields[name]}
          onInput={(event) => {
            onChange({ [name]: event.currentTarget.value });
          }}
        />
      )}
    </Field>
  );
}

interface LinesFieldProps extends FieldsetProps {
  readonly name: 'env' | 'volumes' | 'labels';
  readonly label: string;
  readonly hint: string;
}

/** A field with one entry on each line. */
function LinesField({ name, label, hint, fields, onChange }: LinesFieldProps) {
  return (
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
}

function CreateFieldset(props: FieldsetProps) {
  const { fields, onChange } = props;
  const images = useKnownImages();
  return (
    <>
      <div class="field-row">
        <Field label="Image" hint="An imported image, a short name, or an image in a registry, such as ubuntu:24.04">
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
        <Field label="Name" hint="Optional">
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
        <NumberField {...props} name="cpu" label="CPUs" />
        <NumberField {...props} name="memoryMb" label="Memory, MB" />
        <NumberField {...props} name="diskGb" label="Disk, GB" />
      </div>
      <div class="field-row">
        <NumberField
          {...props}
          name="cpuLimit"
          label="CPU limit"
          optional={{ hint: 'Optional, such as 0.5', min: '0.01', step: 'any' }}
        />
        <NumberField
          {...props}
          name="stopGraceS"
          label="Grace at a stop, s"
          optional={{ hint: 'Optional: how long processes have to end', min: '0', step: 'any' }}
        />
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
        <LinesField {...props} name="env" label="Environment" hint="KEY=VALUE, one on each line" />
        <LinesField
          {...props}
          name="volumes"
          label="Volumes"
          hint="HOST_PATH:PATH_IN_BOX, one on each line; add :ro for read-only"
        />
        <LinesField {...props} name="labels" label="Labels" hint="KEY=VALUE, one on each line" />
      </details>
    </>
  );
}

const imagesKey = 'boxrun-images';
const imagesMax = 12;

/** Image names to suggest: images used in this browser before, images that the server knows, and images of boxes. */
function useKnownImages(): string[] {
  const [named, setNamed] = useState<readonly string[]>([]);
  useEffect(() => {
    const closed = new AbortController();
    boxrun.images({ signal: closed.signal }).then(
      ({ images, aliases }) => {
        setNamed([...images.map(({ name }) => name), ...Object.keys(aliases)]);
      },
      () => undefined, // Without an answer, the other suggestions are still shown.
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
    return []; // The browser may forbid storage.
  }
}

function rememberImage(image: string): void {
  try {
    localStorage.setItem(imagesKey, JSON.stringify([...new Set([image, ...rememberedImages()])].slice(0, imagesMax)));
  } catch {
    // The browser may forbid storage. Then the image is not suggested next time.
  }
}
