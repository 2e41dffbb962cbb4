// Creates a box for the create dialog and reports how it goes. The user always learns the result: while the dialog is
// open there, after it was closed by a notice.
import type { Box, BoxRunClient, Progress } from '../../sdk/browser.ts';
import { boxTitle } from '../live/box-actions.ts';
import { showError, showNotice } from '../live/notices.ts';
import { createInputOf, type CreateFields } from './create-input.ts';

export interface OpenDialog {
  /** False after the user has closed the dialog. */
  isOpen(): boolean;
  showStages(stages: readonly Progress[]): void;
  showFailure(error: unknown): void;
  /** Closes the dialog and goes to the new box. */
  goToBox(box: Box): void;
}

/** Creates the box that `fields` describes. Returns false if that failed. It never rejects. */
export async function createBox(
  client: Pick<BoxRunClient, 'create'>,
  fields: CreateFields,
  dialog: OpenDialog,
): Promise<boolean> {
  const stages: Progress[] = [];
  try {
    const input = createInputOf(fields);
    dialog.showStages([]);
    const box = await client.create(input, {
      onProgress(progress) {
        stages.push(progress);
        if (dialog.isOpen()) dialog.showStages([...stages]);
      },
    });
    showNotice(`${boxTitle(box)} created`);
    if (dialog.isOpen()) dialog.goToBox(box);
    return true;
  } catch (error) {
    if (dialog.isOpen()) dialog.showFailure(error);
    else showError(`The box ${fields.name.trim() || `from ${fields.image}`} was not created`, error);
    return false;
  }
}
