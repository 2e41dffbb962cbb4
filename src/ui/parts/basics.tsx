// The small components of every view: buttons, status, dialogs, and notes for errors, empty lists and loading.
// Each has a label for screen readers. Data is always shown as text, never as HTML.
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';
import { describeError } from '../live/client.ts';

interface ButtonProps {
  readonly children: ComponentChildren;
  readonly onClick?: () => void;
  readonly kind?: 'plain' | 'primary' | 'danger' | 'quiet';
  readonly type?: 'button' | 'submit';
  readonly disabled?: boolean;
  readonly pressed?: boolean;
  readonly label?: string;
}

export function Button({
  children,
  onClick,
  kind = 'plain',
  type = 'button',
  disabled = false,
  pressed,
  label,
}: ButtonProps) {
  return (
    <button
      type={type}
      class={`button ${kind}`}
      disabled={disabled}
      aria-pressed={pressed}
      aria-label={label}
      title={label}
      onClick={onClick}
    >
      {children}
    </button>
  );
}

/** The word shows the status. The colour and the dot only repeat it, for users who can see colours. */
export function Status({ status }: { readonly status: string }) {
  return <span class={`status ${status}`}>{status}</span>;
}

export function ErrorNote({ error }: { readonly error: unknown }) {
  const { message, hint, code } = describeError(error);
  return (
    <div class="note error" role="alert">
      <p>
        <strong>{message}</strong>
        {code === null ? null : <span class="code"> {code}</span>}
      </p>
      {hint === null ? null : <p>{hint}</p>}
    </div>
  );
}

export function EmptyNote({ title, children }: { readonly title: string; readonly children?: ComponentChildren }) {
  return (
    <div class="note empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function LoadingNote({ what }: { readonly what: string }) {
  return (
    <p class="note loading" role="status">
      Loading {what} …
    </p>
  );
}

interface DialogProps {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}

/** A dialog above the page. It closes with Esc, a click beside it, or its close button. */
export function Dialog({ title, onClose, children }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  useEffect(() => {
    const before = document.activeElement;
    element.current?.showModal();
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={element}
      aria-labelledby={titleId}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        if (event.target === element.current) onClose();
      }}
    >
      <div class="dialog">
        <header class="dialog-head">
          <h2 id={titleId}>{title}</h2>
          <Button kind="quiet" label="Close" onClick={onClose}>
            ✕
          </Button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

interface FieldProps {
  readonly label: string;
  readonly hint?: string | undefined;
  readonly children: (ids: {
    readonly id: string;
    readonly 'aria-describedby': string | undefined;
  }) => ComponentChildren;
}

export function Field({ label, hint, children }: FieldProps) {
  const id = useId();
  const hintId = `${id}-hint`;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children({ id, 'aria-describedby': hint === undefined ? undefined : hintId })}
      {hint === undefined ? null : (
        <p class="hint" id={hintId}>
          {hint}
        </p>
      )}
    </div>
  );
}
