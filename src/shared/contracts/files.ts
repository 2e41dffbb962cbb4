// One operation on the files of a box, as the gateway asks the worker for it on a stream. Paths are those in the box. A
// relative path starts at the working directory of the box. The answer is on the stream: see StreamReport.
import { Type, type Static } from 'typebox';

const path = Type.String();
const mode = Type.Optional(Type.Integer({ minimum: 0, maximum: 0o7777 }));

export const FileOperation = Type.Union([
  /** Answers with the report `file`. */
  Type.Object({ do: Type.Literal('stat'), path, follow: Type.Boolean() }),
  /** Answers with bytes: entries in JSON, with a comma and a line break between them. */
  Type.Object({ do: Type.Literal('list'), path, limit: Type.Integer({ minimum: 1 }) }),
  /**
   * Answers with the report `file` and bytes.
   * `offset`: in bytes, negative from the end. `bytes`: null for all up to the end.
   */
  Type.Object({
    do: Type.Literal('read'),
    path,
    offset: Type.Integer(),
    bytes: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
  }),
  /** Takes the bytes of the file. `mtimeS`: seconds since 1970. */
  Type.Object({
    do: Type.Literal('write'),
    path,
    parents: Type.Boolean(),
    mode,
    mtimeS: Type.Optional(Type.Number()),
  }),
  Type.Object({ do: Type.Literal('mkdir'), path, parents: Type.Boolean(), mode }),
  Type.Object({ do: Type.Literal('rename'), path, to: Type.String(), replace: Type.Boolean() }),
  Type.Object({ do: Type.Literal('remove'), path, recursive: Type.Boolean() }),
  Type.Object({ do: Type.Literal('chmod'), path, mode: Type.Integer({ minimum: 0, maximum: 0o7777 }) }),
  /** An id of -1 stays as it is. */
  Type.Object({
    do: Type.Literal('chown'),
    path,
    uid: Type.Integer({ minimum: -1 }),
    gid: Type.Integer({ minimum: -1 }),
    follow: Type.Boolean(),
  }),
  /** Answers with the bytes of a tar archive of the directory. */
  Type.Object({ do: Type.Literal('pack'), path }),
  /** Takes the bytes of a tar archive. */
  Type.Object({ do: Type.Literal('unpack'), path, owners: Type.Boolean() }),
  /** Answers with bytes: changes in JSON, one in each line, until the client closes the stream. */
  Type.Object({ do: Type.Literal('watch'), path, recursive: Type.Boolean() }),
]);
export type FileOperation = Static<typeof FileOperation>;
