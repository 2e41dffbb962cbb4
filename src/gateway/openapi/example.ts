// Writes the example of an operation as a command line of curl, which people can copy.
// `$BOXRUN` in it is the address of the server, as in docs/api.md.
import { pathParameters, type Operation } from './operation.ts';

export function requestExample(operation: Operation): string {
  const { method, path, isWebSocket } = operation;
  const filled = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => pathParameters[name]?.example ?? name);
  const query = new URLSearchParams(operation.example?.query).toString();
  const url = query === '' ? `$BOXRUN${filled}` : `"$BOXRUN${filled}?${query}"`;
  if (isWebSocket === true) return `a WebSocket to ${url}`;
  return ['curl', ...(method === 'get' ? [] : ['-X', method.toUpperCase()]), url, ...bodyWords(operation)].join(' ');
}

function bodyWords({ body, example }: Operation): string[] {
  if (body === undefined) return [];
  if (body.contentType === undefined)
    return ['-H', quoted('Content-Type: application/json'), '-d', quoted(JSON.stringify(example?.body))];
  if (body.contentType === 'application/octet-stream')
    return [
      '-H',
      quoted(`Content-Type: ${body.contentType}`),
      '--data-binary',
      ...Object.values(example?.body ?? {}).map(String),
    ];
  return Object.entries(example?.body ?? {}).flatMap(([name, value]) => ['-F', `${name}=${String(value)}`]);
}

/** Quotes a text for a shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
