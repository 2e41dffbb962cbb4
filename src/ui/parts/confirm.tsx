// The dialog that asks for confirmation before an action on one or many boxes.
// It names the boxes and says what will be lost.
import type { Box } from '../../sdk/browser.ts';
import { actOnBoxes, boxActions, boxTitle, type BoxAction } from '../live/box-actions.ts';
import { Button, Dialog } from './basics.tsx';

const namedMax = 12;

const consequences: Readonly<Record<BoxAction, string>> = {
  start: 'They start with the contents of their disks.',
  stop: 'Commands and terminals in them end. Their disks stay.',
  remove: 'Their disks, commands and output are removed for ever.',
};

interface ConfirmProps {
  readonly action: BoxAction;
  readonly boxes: readonly Box[];
  readonly onClose: () => void;
}

export function ConfirmDialog({ action, boxes, onClose }: ConfirmProps) {
  const { verb } = boxActions[action];
  const many = `${boxes.length} ${boxes.length === 1 ? 'box' : 'boxes'}`;
  const more = boxes.length - namedMax;
  return (
    <Dialog title={`${verb} ${many}?`} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          onClose();
          void actOnBoxes(action, boxes);
        }}
      >
        <ul class="names">
          {boxes.slice(0, namedMax).map((box) => (
            <li key={box.id}>{boxTitle(box)}</li>
          ))}
          {more > 0 ? <li>and {more} more</li> : null}
        </ul>
        <p>{consequences[action]}</p>
        <div class="dialog-foot">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind={action === 'remove' ? 'danger' : 'primary'}>{`${verb} ${many}`}</Button>
        </div>
      </form>
    </Dialog>
  );
}
