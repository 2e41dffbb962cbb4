// Writes the types of the SDK into dist/types. The sources derive the public objects from schemas. Here these types are
// written out, so that a user of the SDK needs no schema library, and the compiler of the user needs less time.
import { mkdirSync, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import ts from 'typescript';

const project = 'src/sdk/tsconfig.json';
const { config } = ts.readConfigFile(project, ts.sys.readFile);
const { options, fileNames } = ts.parseJsonConfigFileContent(config, ts.sys, dirname(project));
const program = ts.createProgram(fileNames, options);
const checker = program.getTypeChecker();

function writeOutTypes(source) {
  const flags = ts.TypeFormatFlags;
  const format =
    flags.NoTruncation | flags.InTypeAlias | flags.MultilineObjectLiterals | flags.UseSingleQuotesForStringLiteralType;
  const aliases = source.statements.filter(ts.isTypeAliasDeclaration);
  return aliases
    .map(
      ({ name }) =>
        `export type ${name.text} = ${checker.typeToString(checker.getTypeAtLocation(name), undefined, format)};\n`,
    )
    .join('')
    .replaceAll(/([{;])((?: {4})+)/g, '$1\n$2');
}

const { diagnostics } = program.emit(undefined, (path, text, _mark, _onError, sources) => {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, basename(path) === 'api.d.ts' ? writeOutTypes(sources[0]) : text);
});
const problems = [...ts.getPreEmitDiagnostics(program), ...diagnostics];
if (problems.length > 0) {
  process.stderr.write(
    ts.formatDiagnostics(problems, {
      getCurrentDirectory: ts.sys.getCurrentDirectory,
      getCanonicalFileName: (name) => name,
      getNewLine: () => '\n',
    }),
  );
  process.exitCode = 1;
}
