// The page /docs: the OpenAPI document for people to read, with an example of each request. The page loads no other
// file and runs no script, so it works without a network and under a strict content security policy.
import { requestExample } from './example.ts';
import type { Operation, Operations } from './operation.ts';

interface Described {
  readonly info: { readonly title: string; readonly version: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, DescribedOperation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, unknown>> };
}

interface DescribedOperation {
  readonly operationId: string;
  readonly summary: string;
  readonly parameters: readonly {
    readonly name: string;
    readonly in: string;
    readonly description?: string;
    readonly schema: unknown;
  }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: unknown }>> };
  readonly responses: Readonly<
    Record<
      string,
      { readonly description: string; readonly content?: Readonly<Record<string, { readonly schema: unknown }>> }
    >
  >;
}

const style = `
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark }
summary { cursor: pointer; padding: .4rem 0; border-top: 1px solid #8884 }
table { border-collapse: collapse; display: block; overflow-x: auto }
td { padding: .2rem 1rem .2rem 0; vertical-align: top }
pre { overflow-x: auto; background: #8882; padding: .6rem; font-size: 13px }
`;

/** @param document the document of `described` */
export function renderPage(document: object, described: Operations): string {
  const { info, paths, components } = document as Described;
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) =>
      renderOperation(method, path, { ...operation, example: described[operation.operationId] }),
    ),
  );
  const schemas = Object.entries(components.schemas).map(
    ([name, schema]) =>
      `<details id="${escape(name)}"><summary><code>${escape(name)}</code></summary>${renderJson(schema)}</details>`,
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escape(info.title)} API</title>
<style>${style}</style>
</head>
<body>
<h1>${escape(info.title)} API ${escape(info.version)}</h1>
<p>The same as <a href="/openapi.json">openapi.json</a>, for programs.</p>
<h2>Operations</h2>
${operations.join('\n')}
<h2>Schemas</h2>
${schemas.join('\n')}
</body>
</html>
`;
}

function renderOperation(
  method: string,
  path: string,
  operation: DescribedOperation & { example: Operation | undefined },
): string {
  const { operationId, summary, parameters, requestBody, responses, example } = operation;
  const parameterRows = parameters.map(
    (each) =>
      `<tr><td><code>${escape(each.name)}</code></td><td>${escape(each.in)}</td><td>${escape(each.description ?? '')} <code>${renderType(each.schema)}</code></td></tr>`,
  );
  const bodyRows = Object.entries(requestBody?.content ?? {}).map(
    ([type, { schema }]) => `<tr><td>body</td><td>${escape(type)}</td><td>${renderType(schema)}</td></tr>`,
  );
  const answerRows = Object.entries(responses).map(([status, { description, content = {} }]) => {
    const [schema] = Number(status) < 400 ? Object.values(content).map((each) => renderType(each.schema)) : [];
    return `<tr><td>${escape(status)}</td><td>${escape(description)}</td><td>${schema ?? ''}</td></tr>`;
  });
  return `<details id="${escape(operationId)}"><summary><code>${escape(method.toUpperCase())} ${escape(path)}</code> ${escape(summary)}</summary>
${example === undefined ? '' : `<pre>${escape(requestExample(example))}</pre>`}
<table>${parameterRows.join('')}${bodyRows.join('')}</table>
<table>${answerRows.join('')}</table>
</details>`;
}

/** A named schema becomes a link; any other schema becomes its JSON in one line. */
function renderType(schema: unknown): string {
  const { $ref, type, items } = schema as { $ref?: string; type?: string; items?: unknown };
  if ($ref !== undefined) {
    const name = $ref.slice($ref.lastIndexOf('/') + 1);
    return `<a href="#${escape(name)}">${escape(name)}</a>`;
  }
  return type === 'array' ? `list of ${renderType(items)}` : escape(JSON.stringify(schema));
}

function renderJson(schema: unknown): string {
  return `<pre>${escape(JSON.stringify(schema, null, 2))}</pre>`;
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
