// The options that every command takes. They change how a command shows things, never what it does.
// They may stand before the name of the command or after it.

export const colorModes = ['auto', 'always', 'never'] as const;

export interface GeneralOptions {
  readonly color?: (typeof colorModes)[number];
  /** Errors are shown with all details. */
  readonly isVerbose?: boolean;
}
