// Lists of boxes and commands, newest first: whole, or a page at a time. Called by client.ts.
// A cursor says where a page ended, so rows that come and go meanwhile shift nothing.
import type { BoxStatus } from '../shared/api.ts';
import type { Transport } from './transport.ts';

/** Which boxes. */
export interface BoxFilter {
  readonly status?: BoxStatus | undefined;
  /** `key`, or `key=value`; all of them must hold. */
  readonly labels?: readonly string[] | undefined;
}

export interface PageOptions {
  /** Rows at most, 1 to 1000; all when absent. */
  readonly limit?: number | undefined;
  /** `nextCursor` of the page before; the first page when absent. */
  readonly cursor?: string | undefined;
}

export interface Page<Row> {
  readonly rows: Row[];
  /** Null on the last page. */
  readonly nextCursor: string | null;
}

/** Rows that are asked for at a time where the whole list is iterated over. */
const pageRows = 200;

export function boxQuery({ status, labels = [] }: BoxFilter): URLSearchParams {
  const query = new URLSearchParams(status === undefined ? {} : { status });
  for (const label of labels) query.append('label', label);
  return query;
}

export async function readPage<Row>(
  transport: Transport,
  path: string,
  query: URLSearchParams,
  { limit, cursor, signal }: PageOptions & { readonly signal?: AbortSignal | undefined },
): Promise<Page<Row>> {
  const parameters = new URLSearchParams(query);
  if (limit !== undefined) parameters.set('limit', String(limit));
  if (cursor !== undefined) parameters.set('cursor', cursor);
  const text = parameters.toString();
  const { body, headers } = await transport.jsonAnswer<Row[]>({
    method: 'GET',
    path: text === '' ? path : `${path}?${text}`,
    signal,
  });
  return { rows: body, nextCursor: headers.get('x-next-cursor') };
}

/** All rows; the next page is asked for when its first row is wanted. */
export async function* eachRow<Row>(
  read: (page: PageOptions) => Promise<Page<Row>>,
  { limit = pageRows, cursor }: PageOptions,
): AsyncGenerator<Row, void, void> {
  for (let next: string | null | undefined = cursor; next !== null;) {
    const page: Page<Row> = await read({ limit, ...(next === undefined ? {} : { cursor: next }) });
    yield* page.rows;
    next = page.nextCursor;
  }
}
