// Reads the files of the project for the style tests: their text and what they import. The rules there are functions
// from files to problems, so that a test can show that the rule can fail. Only the rule on unused exports is a program
// of its own (knip).
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

export const root = fileURLToPath(new URL('../..', import.meta.url));

export interface SourceFile {
  /** The path from the root of the project. */
  readonly path: string;
  readonly text: string;
}

export interface Import {
  readonly specifier: string;
  /** The file of a relative import, from the root of the project. Null for a package. */
  readonly target: string | null;
}

const skipped = new Set(['node_modules', 'dist', '.git', '.vitest', 'package-lock.json']);

/**
 * Every file under `directory` whose name ends with one of `endings`, or every file if there are no endings. For the
 * root, only the files directly in it.
 */
export function readFiles(directory: string, ...endings: string[]): SourceFile[] {
  return readdirSync(join(root, directory), { withFileTypes: true, recursive: directory !== '.' })
    .filter(
      (entry) => entry.isFile() && (endings.length === 0 || endings.some((ending) => entry.name.endsWith(ending))),
    )
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((path) => !path.split('/').some((part) => skipped.has(part)))
    .sort()
    .map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }));
}

/** Everything that `file` imports: static and dynamic imports, types, and exports from other files. */
export function importsOf(file: SourceFile): Import[] {
  const imports: Import[] = [];
  const add = (node: ts.Node | undefined) => {
    if (node === undefined || !ts.isStringLiteralLike(node)) return;
    const specifier = node.text;
    const target = specifier.startsWith('.') ? normalize(join(dirname(file.path), specifier)) : null;
    imports.push({ specifier, target });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) {
      add(node.moduleSpecifier);
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      add(node.arguments[0]);
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      add(node.argument.literal);
    }
    ts.forEachChild(node, visit);
  };
  visit(parse(file));
  return imports;
}

/** How often `file` reads `process.env`. */
export function environmentUses(file: SourceFile): number {
  let uses = 0;
  const visit = (node: ts.Node): void => {
    if (ts.isPropertyAccessExpression(node) && node.name.text === 'env' && node.expression.getText() === 'process')
      uses++;
    ts.forEachChild(node, visit);
  };
  visit(parse(file));
  return uses;
}

function parse({ path, text }: SourceFile): ts.SourceFile {
  return ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
}
