// The option --format: a text with fields in double braces, such as `{{.name}} {{.status}}`, or the word `json`.
// There is no template language: no conditions, no loops, no functions except json.
import { UsageError } from './options.ts';

type Fields = Readonly<Record<string, unknown>>;
/** Gives the line for one row, with its line break. */
export type Format = (row: Fields) => string;

/** How a list is shown: as a table if `isJson` and `isQuiet` are false and `line` is null. */
interface ListForm {
  readonly isJson: boolean;
  readonly isQuiet: boolean;
  readonly line: Format | null;
}

/** @throws UsageError for --format together with another form, and for a --format that is not valid */
export function listFormOf(values: {
  readonly json: boolean;
  readonly quiet?: boolean;
  readonly format: string | undefined;
}): ListForm {
  const { json, quiet = false, format } = values;
  if (format !== undefined && (json || quiet)) throw new UsageError('choose one of --json, --quiet and --format');
  return { isJson: json, isQuiet: quiet, line: format === undefined ? null : formatOf(format) };
}

const placeholder = /\{\{\s*(json\s+)?\.([\w./-]*)\s*\}\}/g;

/**
 * @param text `json`, or a text with `{{.field}}`, `{{.field.member}}` and `{{json .field}}`. `{{.}}` and `{{json .}}`
 * both give the whole row as JSON. `\t` and `\n` mean a tab and a line break
 * @throws UsageError, also from the function, if a row has no such field
 */
export function formatOf(text: string): Format {
  if (text === 'json') return (row) => `${JSON.stringify(row)}\n`;
  if (text.startsWith('table ')) throw new UsageError("--format has no 'table'; leave --format out for a table");
  if (/\{\{|\}\}/.test(text.replace(placeholder, '')))
    throw new UsageError('--format knows only {{.field}} and {{json .field}}; for more, see: --json and jq');
  const unescaped = text.replaceAll('\\t', '\t').replaceAll('\\n', '\n');
  return (row) =>
    `${unescaped.replace(placeholder, (_, json: string | undefined, path: string) => {
      const value = path === '' ? row : memberOf(row, path);
      return json === undefined && path !== '' ? plain(value) : (JSON.stringify(value) ?? 'null');
    })}\n`;
}

/** The member of a row. The first word is a field that every row has; the rest is a key in that field, if any. */
function memberOf(row: Fields, path: string): unknown {
  const dot = path.indexOf('.');
  const [wanted, key] = dot < 0 ? [path, null] : [path.slice(0, dot), path.slice(dot + 1)];
  const field =
    Object.keys(row).find((name) => name === wanted) ?? Object.keys(row).find((name) => isSame(name, wanted));
  if (field === undefined)
    throw new UsageError(`--format: there is no field ${wanted}; the fields are ${Object.keys(row).join(', ')}`);
  const value = row[field];
  if (key === null) return value;
  return typeof value === 'object' && value !== null ? (value as Fields)[key] : undefined;
}

/** Users of docker write `.CreatedAt` for created_at, and `.Names` for name. */
function isSame(name: string, wanted: string): boolean {
  const word = wanted.toLowerCase();
  return name.replaceAll('_', '') === (word === 'names' ? 'name' : word);
}

function plain(value: unknown): string {
  if (value === null || value === undefined) return '';
  return typeof value === 'string' ? value : JSON.stringify(value);
}
