// The paths of boxes and commands in the API, and the header for requests that may be repeated. Names are encoded, so
// no name leads to another path.

/** @param box an id or a name */
export function boxPath(box: string): string {
  return `/v1/boxes/${encodeURIComponent(box)}`;
}

export function execPath(box: string, execId: string): string {
  return `${boxPath(box)}/exec/${encodeURIComponent(execId)}`;
}

export function keyHeader(key: string | undefined): Record<string, string> {
  return key === undefined ? {} : { 'idempotency-key': key };
}
