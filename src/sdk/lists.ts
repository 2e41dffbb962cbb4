// Lists of boxes and commands, newest first: the whole list, or one page at a time.
// The cursor marks the last row of a page. So no row is skipped or repeated if rows are added or removed meanwhile.
import type { BoxStatus } from '../shared/api.ts';
import type { Transport } from './transport.ts';

/** Selects boxes. */
export interface BoxFilter {
  readonly status?: BoxStatus | undefined;
  /** `key` or `key=value`. A box must have all of them. */
  readonly labels?: readonly string[] | undefined;
}

export interface PageOptions {
  /** Largest number of rows, 1 to 1000; all rows when absent. */
  readonly limit?: number | undefined;
  /** The `nextCursor` of the previous page; the first page when absent. */
  readonly cursor?: string | undefined;
}

export interface Page<Row> {
  readonly rows: Row[];
  /** Null on the last page. */
  readonly nextCursor: string | null;
}

/** Rows in one request while `eachRow` reads the whole list. */
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

/** Each row of the whole list. It requests a page only when the caller wants the first row of that page. */
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
