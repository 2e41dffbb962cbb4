// The exports that the SDK for Node and the SDK for browsers share: types and errors.
// Besides these, only `BoxRun` and `ServerAddress` are public.
export type {
  Box,
  BoxPort,
  BoxProcess,
  BoxStats,
  BoxStatus,
  BoxUsage,
  Exec,
  ExecStatus,
  FileEntry,
  Images,
  Info,
  PortLink,
  Progress,
  PullResult,
  UiLink,
  UsageSample,
} from '../shared/api.ts';
export { BoxRunError, errorCatalogue, type ErrorCode } from '../shared/errors.ts';
export type {
  BoxFiles,
  DirectoryArchive,
  DirectoryOptions,
  FileChangeEvent,
  FileOptions,
  ReadOptions,
  WriteOptions,
} from './box-files.ts';
export type { BoxHandle } from './box-handle.ts';
export type { BoxRunClient } from './client.ts';
export type { ExecEvent, ExecEventsOptions, ExitEvent, LogEvent, RunStreamOptions } from './event-stream.ts';
export type { ExecResult, RunOutcome as RunResult } from './exec-result.ts';
export type { Download, UploadAttributes, UploadSource } from './files.ts';
export type { BoxFilter, Page, PageOptions } from './lists.ts';
export type {
  CallOptions,
  Command,
  CreateBoxInput,
  CreateOptions,
  ExecOptions,
  MakeOptions,
  PullOptions,
  RemoveOptions,
  RunInput,
  StopOptions,
  UpdateBoxInput,
} from './options.ts';
export type { PortConnection } from './platform.ts';
export type { BoxPorts, ConnectPortOptions, ForwardOptions, PortForward, WaitForPortOptions } from './ports.ts';
export type {
  BoxStateEvent,
  ExecStateEvent,
  ReadyEvent,
  ResetEvent,
  StateEvent,
  StateEventsOptions,
} from './state-stream.ts';
export type { AttachExecOptions, AttachOptions, Exit, Terminal } from './terminal.ts';
export type { UsageEvent, UsageHistoryEvent, UsageOptions, UsageSampleEvent } from './usage-stream.ts';
