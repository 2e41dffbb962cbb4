// Changes the name and the labels of a box for a client, in every state of the box and beside its other operations.
// While a new name is being committed, both names belong to the box. So no other box can take either of them.
import type { Box, UpdateBoxBody } from '../../shared/api.ts';
import type { BoxChange } from '../../shared/contracts/writer.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { labelsMax } from '../../shared/request-bounds.ts';
import { publicBox, type BoxRow } from '../../shared/store/rows.ts';
import { createInTurn, type InTurn } from '../../shared/waiting/in-turn.ts';
import { isOutcomeUnknown, retryUntilDone } from '../workers/retry.ts';
import type { SupervisedBox } from './box.ts';
import type { BoxRegistry } from './box-registry.ts';

type Details = Pick<BoxChange, 'name' | 'labels'>;
type Names = Pick<BoxRegistry, 'claimName' | 'releaseName' | 'markNameUncertain'>;

/**
 * Makes the function that changes a box. It does nothing if the box already is as requested.
 * The function throws NAME_ALREADY_EXISTS, VALIDATION_ERROR (too many labels), BOX_NOT_FOUND (removed meanwhile).
 */
export function createDetailChanges(names: Names): (box: SupervisedBox, body: UpdateBoxBody) => Promise<Box> {
  const turns = new WeakMap<SupervisedBox, InTurn>();

  async function change(box: SupervisedBox, body: UpdateBoxBody): Promise<Box> {
    const details = changesOf(box.row, body);
    if (details.name === undefined) {
      if (details.labels !== undefined) await box.changeDetails(details);
      return publicBox(box.row);
    }
    const before = box.row.name;
    if (details.name !== null) names.claimName(details.name, box.id);
    try {
      await box.changeDetails(details);
      releaseUnused(box, [before]);
    } catch (error) {
      if (details.name !== null && isOutcomeUnknown(error)) void releaseLater(box, details.name);
      else releaseUnused(box, [before, details.name]);
      throw error;
    }
    return publicBox(box.row);
  }

  /**
   * The writer may still commit the new name. So the present name of the row is sent again until it is committed. Then
   * the new name is free.
   */
  async function releaseLater(box: SupervisedBox, name: string): Promise<void> {
    names.markNameUncertain(name, box.id);
    await retryUntilDone(() => box.changeDetails({ name: box.row.name })).catch(() => undefined);
    releaseUnused(box, [name]);
  }

  function releaseUnused(box: SupervisedBox, candidates: readonly (string | null | undefined)[]): void {
    for (const name of candidates) {
      if (typeof name !== 'string' || (box.row.name === name && box.state !== 'removed')) continue;
      names.releaseName(name, box.id);
    }
  }

  return (box, body) => {
    const inTurn = turns.get(box) ?? createInTurn();
    turns.set(box, inTurn);
    return inTurn(() => change(box, body));
  };
}

/** The fields that differ from the row. @throws VALIDATION_ERROR when the box would have too many labels */
function changesOf(row: Readonly<BoxRow>, { name, labels: given }: UpdateBoxBody): Details {
  const labels = given === undefined ? row.labels : mergedLabels(row.labels, given);
  const isSame = JSON.stringify(labels ?? {}) === JSON.stringify(row.labels ?? {});
  return { ...(name === undefined || name === row.name ? {} : { name }), ...(isSame ? {} : { labels }) };
}

function mergedLabels(present: BoxRow['labels'], given: UpdateBoxBody['labels']): Record<string, string> {
  if (given === null) return {};
  const merged = Object.entries({ ...present, ...given }).flatMap(([key, text]) =>
    text === null ? [] : [[key, text]],
  );
  if (merged.length > labelsMax) {
    throw new BoxRunError('VALIDATION_ERROR', `the box would have ${merged.length} labels, of ${labelsMax}`, {
      hint: 'remove labels in the same request: a label that is null is removed',
    });
  }
  return Object.fromEntries(merged) as Record<string, string>;
}
