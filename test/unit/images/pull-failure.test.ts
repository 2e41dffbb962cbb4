// What the user reads when a pull fails: a short reason in the first line, a hint, and the text of the program below.
import { expect, it } from 'vitest';
import { messageOfLogLine, pullFailure } from '../../../src/shared/images/pull-failure.ts';

it.each([
  [
    'dial tcp: lookup registry-1.docker.io on 10.0.0.1:53: no such host',
    'registry not reachable',
    'boxrun images import',
  ],
  ['dial tcp 127.0.0.1:9: connect: connection refused', 'registry not reachable', 'boxrun images import'],
  ['the registry did not answer in time', 'registry not reachable', 'boxrun images import'],
  ['reading manifest 9 in r/x: manifest unknown', 'no such image', 'check the name'],
  ['requested access to the resource is denied', 'access denied, or no such image', 'skopeo login r.example'],
  ['unauthorized: authentication required', 'access denied, or no such image', 'skopeo login r.example'],
  ['unexpected end of JSON input', 'the image cannot be read', 'boxrun images import'],
])('says in a few words what "%s" means', (details, short, hint) => {
  const error = pullFailure('r.example/x', 'r.example', details, null);
  expect(error.message).toBe(`cannot pull r.example/x: ${short}\n${details}`);
  expect(error.hint).toContain(hint);
});

it('takes the message out of a log line of skopeo', () => {
  const line = 'time="2026-01-01T00:00:00Z" level=fatal msg="Error parsing image name \\"docker://x\\": no such host"';
  expect(messageOfLogLine(line)).toBe('Error parsing image name "docker://x": no such host');
  expect(messageOfLogLine('other text')).toBe('other text');
});
