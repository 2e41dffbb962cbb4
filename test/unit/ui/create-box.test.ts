// A create in the dashboard: its stages, and where the user sees the result, with the dialog open or closed.
import { beforeEach, expect, it } from 'vitest';
import type { Box } from '../../../src/shared/api.ts';
import { notices } from '../../../src/ui/live/notices.ts';
import { createBox } from '../../../src/ui/parts/create-box.ts';
import { emptyFields } from '../../../src/ui/parts/create-input.ts';
import { serve, sse } from '../sdk/setup.ts';

const failure = 'event: error\ndata: {"code":"IMAGE_PULL_FAILED","message":"no such image"}\n\n';
const progress = 'event: progress\ndata: {"stage":"pull","message":"pulling"}\n\n';
const success = 'event: box\ndata: {"id":"box_a","name":"web"}\n\n';

beforeEach(() => {
  notices.set([]);
});

/** Creates the box "web" at a server that answers with `answer`. The dialog closes at once if `isOpen` is false. */
async function createAt(answer: string, isOpen: boolean, name = 'web') {
  const client = await serve((_, response) => {
    sse(response).end(answer);
  });
  const seen: string[] = [];
  const isCreated = await createBox(
    client,
    { ...emptyFields, name },
    {
      isOpen: () => isOpen,
      showStages: (stages) => seen.push(`stages: ${stages.map(({ message }) => message).join()}`),
      showFailure: (error) => seen.push(`failure: ${(error as Error).message}`),
      goToBox: ({ id }: Box) => seen.push(`go to ${id}`),
    },
  );
  return { isCreated, seen, notices: notices.get().map(({ kind, text }) => `${kind}: ${text}`) };
}

it('shows the stages and goes to the new box', async () => {
  expect(await createAt(progress + success, true)).toEqual({
    isCreated: true,
    seen: ['stages: ', 'stages: pulling', 'go to box_a'],
    notices: ['done: web created'],
  });
});

it('shows a failure in the open dialog', async () => {
  expect(await createAt(failure, true)).toEqual({
    isCreated: false,
    seen: ['stages: ', 'failure: no such image'],
    notices: [],
  });
});

it('shows the result of a create as a notice after the dialog was closed', async () => {
  expect(await createAt(progress + success, false)).toMatchObject({
    seen: ['stages: '],
    notices: ['done: web created'],
  });
  notices.set([]);
  expect(await createAt(failure, false)).toMatchObject({
    seen: ['stages: '],
    notices: ['error: The box web was not created: no such image'],
  });
  expect((await createAt(failure, false, '')).notices.at(-1)).toBe(
    'error: The box from base was not created: no such image',
  );
});
