// The version of the database's schema: how many migrations there are. Apart from migrations.ts, so that a process without SQLite can
// ask whether a running writer has the same.
export const schemaVersion = 4;
