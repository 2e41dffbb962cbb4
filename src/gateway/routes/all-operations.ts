// The list of all operations, and of all their handlers. The server and the document are made from this list: what is
// not in it is neither served nor described.
import type { GatewayParts } from '../parts.ts';
import { attachOperations, createAttachHandlers } from './attach.ts';
import { boxOperations, createBoxHandlers } from './boxes.ts';
import { createDescriptionHandlers, descriptionOperations } from './description.ts';
import { createEventHandlers, eventOperations } from './events.ts';
import { createExecHandlers, execOperations } from './execs.ts';
import { createFileHandlers, fileOperations } from './files.ts';
import { createFsHandlers, fsOperations } from './fs.ts';
import type { HandlersOf } from './handler.ts';
import { createHealthHandlers, healthOperations } from './health.ts';
import { createImageHandlers, imageOperations } from './images.ts';
import { createPortHandlers, portOperations } from './ports.ts';
import { createProcessHandlers, processOperations } from './processes.ts';
import { createRunHandlers, runOperations } from './run.ts';
import { createUiHandlers, uiOperations } from './ui.ts';
import { createUsageHandlers, usageOperations } from './usage.ts';

/** In the order of the document. */
export const operations = {
  ...boxOperations,
  ...execOperations,
  ...runOperations,
  ...fileOperations,
  ...fsOperations,
  ...attachOperations,
  ...portOperations,
  ...processOperations,
  ...eventOperations,
  ...usageOperations,
  ...imageOperations,
  ...healthOperations,
  ...uiOperations,
  ...descriptionOperations,
};

export type Handlers = HandlersOf<typeof operations>;

export function createHandlers(parts: GatewayParts): Handlers {
  return {
    ...createBoxHandlers(parts),
    ...createExecHandlers(parts),
    ...createRunHandlers(parts),
    ...createFileHandlers(parts),
    ...createFsHandlers(parts),
    ...createAttachHandlers(parts),
    ...createPortHandlers(parts),
    ...createProcessHandlers(parts),
    ...createEventHandlers(parts),
    ...createUsageHandlers(parts),
    ...createImageHandlers(parts),
    ...createHealthHandlers(parts),
    ...createUiHandlers(parts),
    ...createDescriptionHandlers(operations),
  };
}
