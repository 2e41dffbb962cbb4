// Every bound in the project, with its unit in its name and what happens when it is reached.
// Imports nothing; values that a user may want to change are read through config.ts instead.

export const limits = {
  /**
   * Memory (resident) of any process of the server, whatever passes through it. Held by the bounds below, not by a
   * check of its own; the tests of load and of large files fail past it.
   */
  processMemoryMbMax: 200,
  /** ... of the gateway with many clients at once that do not read (40 streams of megabytes) or only wait (500). */
  gatewayMemoryMbMax: 256,

  /** IPC: a longer frame closes the connection that sent it. */
  frameBytesMax: 16 * 1024 * 1024,
  /** IPC: deadline of a request that names none; the caller gets UNAVAILABLE. */
  requestTimeoutMs: 10_000,
  /** Gateway: an answer of the writer that a stream needs. A writer that is away for longer ends the stream. */
  followTimeoutMs: 60_000,
  /** IPC: connecting to a peer's socket; the caller retries or reports the peer as down. */
  connectTimeoutMs: 2_000,
  /** IPC: a peer that has not said hello by then is closed. */
  helloTimeoutMs: 2_000,
  /** IPC: pause between two attempts to reach a process that is down (first, and longest after doubling). */
  reconnectFirstMs: 10,
  reconnectLongestMs: 250,
  /** IPC: requests waiting for an answer at one peer; the next one is refused with TOO_MANY_REQUESTS. */
  requestsPendingMax: 10_000,

  /** Heartbeats: a process that others depend on shows a sign of life this often. */
  heartbeatEveryMs: 1_000,
  /** ... after so many that are missing /readyz says that it does not answer, */
  heartbeatDoubtMisses: 2,
  /**
   * ... and after so long (BOXRUN_SILENCE_MS) it is given up: its connections are cut, and whoever started it kills it
   * and starts it again.
   */
  silenceMs: 8_000,
  /** Gateway: what /readyz and /metrics ask of another process comes within this, or counts as no answer. */
  healthTimeoutMs: 1_000,

  /**
   * Gateway: moments of `/v1/usage` are taken this often, kept this many (an hour), and each looks at so many answers
   * of a kind.
   */
  usageSampleMs: 5_000,
  usageSamplesMax: 720,
  usageTimesMax: 1_000,

  /**
   * Streams of terminals and files: longest piece; longer ones are cut, and a peer that sends longer ones loses its
   * connection.
   */
  streamPieceBytesMax: 256 * 1024,
  /** A token for a stream that is not used by then is void. */
  streamTokenMs: 10_000,
  /** Tokens handed out and not used yet, per worker; the next one is refused with TOO_MANY_REQUESTS. */
  streamTokensMax: 1_000,
  /** Streams open at once at one worker; the next one is refused with TOO_MANY_REQUESTS. */
  streamsOpenMax: 256,
  /**
   * File transfers: bytes under way to or from the box that it has not confirmed (BoxLite's ring holds 1 MiB of text).
   */
  fileBlockBytes: 512 * 1024,
  /**
   * Uploads: what the box says before it takes bytes (a directory made, a file opened) and at the end comes within
   * this.
   */
  fileAnswerMs: 60_000,
  /** ... and after one that failed, the box has this long to remove what came of it. */
  fileTidyMs: 10_000,
  /** Input that the program in a terminal does not read; past it the terminal ends with RESOURCE_EXCEEDED. */
  terminalInputBytesMax: 1024 * 1024,
  /** Gateway: a file that comes before its destination is kept on the disk, whose room is looked at after so much. */
  spoolCheckBytes: 8 * 1024 * 1024,
  /** Gateway: the rest of an upload that was refused is taken and dropped for this long; then its connection is cut. */
  uploadRefusedMs: 60_000,
  /** Gateway: a WebSocket whose client reads slowly; past it the worker's stream is not read. */
  webSocketBufferBytesMax: 1024 * 1024,
  /** ... all that are open share so much, but each has the least. */
  webSocketsBufferBytesMax: 8 * 1024 * 1024,
  webSocketBufferBytesLeast: 16 * 1024,
  /** Gateway: longest message that a WebSocket takes; past it the connection is closed. */
  webSocketMessageBytesMax: 4 * 1024 * 1024,
  /**
   * ... of all WebSockets, messages that are not whole yet or that wait for the box; half of them of one client. The
   * WebSocket that needs more is closed with TOO_MANY_REQUESTS.
   */
  webSocketsIncomingBytesMax: 16 * 1024 * 1024,
  /** Gateway: uploads and downloads under way of one client; the next one is refused with TOO_MANY_REQUESTS. */
  transfersPerClientMax: 128,
  /** Gateway: ping on every WebSocket; one whose answer is missing by the next is cut. */
  webSocketPingMs: 20_000,

  /**
   * An output event is at most this long; longer reads are split. Go's bufio.Scanner, and clients that use it, take no
   * line of 64 KiB: base64 of an event is always shorter, text is where JSON does not make it twice as long.
   */
  eventBytesMax: 32 * 1024,
  /** Output waits this long for more of it before it is sent on. */
  outputFlushMs: 4,
  /** ... or until this much has come together. */
  outputFlushBytes: 64 * 1024,
  /** Gateways on one port; more than processors buys nothing. */
  gatewaysMax: 64,
  /** One of several gateways tells its figures to the supervisor, from which the others have them, so often. */
  gatewayReportEveryMs: 5_000,
  /**
   * Worker: the row of a command that has only begun waits this long for what comes next; a short one is then committed
   * whole, at once.
   */
  execRowDelayMs: 3,
  /**
   * Worker: a command's pipe is first looked at when the command has ended, or after this long; until then it holds
   * what is written.
   */
  outputFirstLookMs: 2,
  /** Worker: output not yet acknowledged by the writer; at it, reading its commands' pipes stops. */
  unackedBytesMax: 8 * 1024 * 1024,
  /** Worker: operations in one commit request. */
  commitOpsMax: 512,
  /**
   * Worker: bytes in one commit request (well under frameBytesMax): a short command of another box waits until one of
   * these is on the disk.
   */
  commitBytesMax: 512 * 1024,
  /** After the leader's exit, background children may hold its pipes this long; then the exec ends without them. */
  exitDrainMs: 500,
  /**
   * After the leader's exit its own output may still be queued: while at least this much comes in each `exitDrainMs`,
   * or the writer is slow, draining goes on ...
   */
  exitDrainBusyBytes: 64 * 1024,
  /** ... for this long at the most; without children, until nothing has come for this long. */
  exitDrainBusyMs: 30_000,
  /** Hold of an exec's answer, so that a short command comes back finished. */
  execHoldLeastMs: 25,
  execHoldMostMs: 250,
  /** Execs running at once in one box (--max-execs); the next one is refused with RESOURCE_EXCEEDED. */
  execsRunningMax: 512,
  /**
   * Output kept of one exec (--max-output-mb); past it the command goes on, the rest is dropped, and its events say so.
   */
  execOutputBytesMax: 4 * 1024 * 1024 * 1024,
  /** Processes and threads in one box (container driver); past it fork fails in the box with EAGAIN. */
  boxProcessesMax: 4096,
  /** Whole-tree kill; past it the supervisor stops the box and sets it to `error`. */
  killTimeoutMs: 10_000,
  /** Start of a command in the box. */
  execStartTimeoutMs: 60_000,
  /** Runner (container driver): its start; past it, or without one, commands take the ordinary path. */
  runnerStartTimeoutMs: 10_000,
  /** ... starts in limits.restartWindowMs; then none is tried until the window has passed. */
  runnerStartsMax: 3,
  /**
   * ... is asked for a sign of life this often while it has commands; after so many without one it is given up, and its
   * commands with it.
   */
  runnerPingMs: 5_000,
  runnerPingsUnansweredMax: 6,
  /** ... reports the end of a command whose tree is dead within this; then it counts as killed. */
  runnerReportMs: 1_000,
  /** /v1/run: bytes kept of each of stdout and stderr; the rest is cut, and the answer says so. */
  runOutputBytesMax: 16 * 1024 * 1024,
  /** ... and of all runs together, until their clients have read them; past it they are cut earlier. */
  runsOutputBytesMax: 48 * 1024 * 1024,

  /** Writer: bytes waiting to be sent to one following gateway; past it the gateway is told to read history instead. */
  followerBufferBytesMax: 8 * 1024 * 1024,
  /**
   * Writer: changes of boxes and execs kept for clients that come back, and characters of them; of older ones they hear
   * `reset`.
   */
  statesKeptMax: 4_096,
  statesKeptBytesMax: 8 * 1024 * 1024,
  /**
   * Writer: rows deleted by one transaction of a removal or a sweep, and how long it goes on with that; the rest comes
   * later.
   */
  deleteSliceRows: 5_000,
  deleteSliceMs: 8,
  /** Writer: between two slices a sweep rests so many times as long as a slice took. */
  sweepRestFactor: 4,
  /**
   * Ended execs with their output are kept for this long (--retention-hours); 0: as long as their box. Past it they are
   * removed.
   */
  retentionHours: 0,
  /** A client's Idempotency-Key stands for what it made for this long. */
  keyLifeMs: 24 * 60 * 60 * 1000,
  /** Writer: removes keys whose time is over this often, and so many in one transaction. */
  keySweepEveryMs: 10 * 60 * 1000,
  keySweepSliceRows: 32,
  /**
   * Of each of stdout and stderr of a run under a key, bytes kept for a repeated answer; the rest is cut, and the
   * answer says so.
   */
  keptOutputBytesMax: 512 * 1024,
  /** Writer: operations in one group commit; the rest goes into the next. */
  groupOpsMax: 20_000,
  /** Writer: changes with so many bytes of output let one group of smaller ones pass before them. */
  largeChangeBytes: 128 * 1024,
  /**
   * ... and while changes come that somebody waits for, at most this far apart, each group with large ones is followed
   * by a rest so many times as long as it took, and no longer than this.
   */
  largeChangeYieldMs: 250,
  largeChangeRestFactor: 10,
  largeChangeRestMaxMs: 100,
  /** Writer without keeper and workers ends after this. */
  writerIdleExitMs: 5_000,

  /** Gateway: events in one page of history. */
  replayPageEvents: 512,
  /** Gateway: bytes in one page of history. */
  replayPageBytes: 512 * 1024,
  /**
   * ... of all pages that readers hold at once, as long as their clients take: past it pages are smaller, but never
   * under the least.
   */
  replayBytesMax: 8 * 1024 * 1024,
  replayPageBytesLeast: 16 * 1024,
  /**
   * Gateway: a page whose events have no more bytes than this, on average, comes from its thread in one buffer, and the
   * next one is read while it is sent.
   */
  smallEventBytes: 256,
  /** Gateway: live events waiting for one slow client; past it they are dropped and read from history again. */
  feedBufferBytesMax: 1024 * 1024,
  /** ... for all slow clients together, but for one message each. */
  feedsBufferBytesMax: 16 * 1024 * 1024,
  /** Gateway: events are written to a client in pieces of this many characters, or of one event. */
  ssePieceChars: 64 * 1024,
  /** Gateway: comment line on an event stream that is idle for this long (BOXRUN_SSE_HEARTBEAT_MS; from, to). */
  sseHeartbeatMs: 10_000,
  sseHeartbeatMsLeast: 10,
  sseHeartbeatMsMost: 15_000,
  /** Gateway: `102 Processing`, first and every. */
  processingEveryMs: 10_000,
  /** Gateway: JSON bodies (--max-body-mb); past it 413. */
  bodyBytesMax: 1024 * 1024,
  /**
   * Gateway: bodies of all requests under way, half of them of one client, which may always send one. Past it
   * TOO_MANY_REQUESTS. Parsed, a body takes up to ten times its length.
   */
  bodiesHeldBytesMax: 8 * 1024 * 1024,
  /** ... a body that has not come after this has its connection cut. */
  bodyTimeoutMs: 60_000,
  /**
   * Gateway: answers that clients have asked for and not read, half of them of one client, which may always have one.
   * Past it reads get TOO_MANY_REQUESTS, and long lists wait for their clients.
   */
  unreadBytesMax: 16 * 1024 * 1024,
  /** ... shorter bodies and answers are not counted. */
  heldBytesCounted: 4 * 1024,
  /** Gateway: connections of one client, beside those that its streams may take (--max-streams); more get 429. */
  connectionsBesideStreamsMax: 1_000,
  /** ... and requests under way on them; more get 429, and their connection is closed. */
  requestsBesideStreamsMax: 4_000,
  /**
   * Gateway: event streams and WebSockets open at once of one client, by its address (--max-streams); the next one is
   * refused with TOO_MANY_REQUESTS.
   */
  streamsPerClientMax: 1_000,
  /**
   * Volumes of a box on BoxLite, whose micro-VM has places for few devices: the driver's own takes one, a network
   * another; more get 422.
   */
  microVmVolumesMax: 2,
  microVmVolumesWithNetworkMax: 1,
  /** A token for TCP: characters. */
  tokenLengthLeast: 16,
  tokenLengthMost: 512,
  /** The dashboard's one-time link is void after this ... */
  uiCodeMs: 60_000,
  /** ... and the oldest one when so many wait. */
  uiCodesMax: 100,
  /** The dashboard's cookie is void after this. */
  uiCookieMs: 12 * 60 * 60 * 1000,
  /** Gateway: length of an Idempotency-Key, in characters. */
  keyLengthMax: 255,
  /** Gateway: length of the id at which a client resumes the stream of changes. */
  stateIdLengthMax: 64,
  /** Gateway: longest hold of GET exec with `wait`, in seconds. */
  execWaitMaxS: 300,
  /** Gateway: rows of a list that one page may have, and labels that one list may ask for. */
  pageRowsMax: 1_000,
  labelFiltersMax: 16,
  /** ... and prepared statements for lists that a reader keeps; past it all are prepared anew. */
  listStatementsMax: 64,
  /** Gateway: characters of answers kept while nothing is committed; past it they are forgotten, and read again. */
  answersKeptChars: 4 * 1024 * 1024,
  /** Gateway: threads that read the database, and calls waiting for them. */
  readerThreads: 2,
  readerQueueMax: 4_096,
  /**
   * Gateway: an address that is in use gets this long to be freed, by a predecessor that is just going; then the start
   * fails.
   */
  listenWaitMs: 4_000,
  /** Gateway: the other processes get this long to answer before it takes requests anyway. */
  partsWaitMs: 5_000,
  /** Gateway: streams get this long to end at shutdown. */
  gatewayCloseMs: 3_000,

  /**
   * Supervisor: boxes of one server, stopped ones too (--max-boxes); the next create is refused with RESOURCE_EXCEEDED.
   */
  boxesMax: 1_000,
  /**
   * Supervisor: free disk for the state directory (--min-free-disk-mb); below it create and exec are refused with
   * RESOURCE_EXCEEDED.
   */
  freeDiskBytesMin: 256 * 1024 * 1024,
  /** ... which is looked at anew after this. */
  freeDiskStaleMs: 250,
  /**
   * Container driver: boxes may fill the host's disk up to here; a write past it ends with ENOSPC in the box. Looked at
   * so often.
   */
  diskMarginBytes: 128 * 1024 * 1024,
  diskRoomEveryMs: 500,
  /** Supervisor: looks this often whether the disk is nearly full. */
  diskWatchEveryMs: 1_000,
  /**
   * A file of this size is given up when the disk is full, so that boxes can be removed and the database be written.
   */
  diskReserveBytes: 32 * 1024 * 1024,
  /** Supervisor: a new spare waits with its start while boxes come up or go, so long at the most. */
  spareWaitMs: 5_000,
  /**
   * Supervisor: workers that start at once, for each processor; others wait. A hundred at once would each be too slow
   * to say hello.
   */
  workerStartsPerCpu: 2,
  /**
   * Supervisor: boxes that come up or are removed at once, for each processor; each other one waits until one of them
   * is done or has had so many ms. Many together take longer than one after the other.
   */
  boxTurnsPerCpu: 2,
  boxTurnMs: 2_000,
  /** Supervisor: a spawned worker answers on its socket by then. */
  workerReadyMs: 15_000,
  /** Supervisor: bringing a box up, image pull not counted. */
  boxStartTimeoutMs: 120_000,
  /** Supervisor: everything an image needs before its first use. */
  imagePrepareTimeoutMs: 900_000,
  /**
   * Images: holes in the files of a layer, which become zeros on the disk of the host. An image with more is refused.
   */
  imageHoleBytesMax: 8 * 1024 ** 3,
  /** ... and pieces of data between the holes of one file. */
  sparsePiecesMax: 1_000_000,
  /** A registry that says nothing for this long is given up: IMAGE_PULL_FAILED. */
  registryTimeoutMs: 30_000,
  /** Supervisor: one attempt to stop or to remove; past it the worker is ended and a new one does it. */
  boxStopTimeoutMs: 60_000,
  /**
   * Stop of a box: its processes have this long to end after they were asked to (TERM); then they are killed.
   * A box or a client may name another time, up to the most (`graceSMax` in api.ts); more gets VALIDATION_ERROR.
   */
  stopGraceMs: 5_000,
  stopGraceMsMax: 600_000,
  /** Removal of a running box: the same. */
  removeGraceMs: 1_000,
  boxRemoveTimeoutMs: 60_000,
  /**
   * Supervisor: workers in turn that a start, stop or removal may use up; then it fails, and what may still run goes on
   * counting.
   */
  boxAttemptsMax: 3,
  /**
   * Supervisor: a worker that stops or removes a box is greeted this often; after so many greetings without an answer
   * it is killed.
   */
  workerPulseMs: 1_000,
  workerPulsesMissedMax: 3,
  /** Supervisor: a worker gives up bringing a box up by then, once told to; past it it is killed. */
  cancelTimeoutMs: 10_000,
  /**
   * Supervisor: a worker told to go has this long; then SIGKILL. In half of it the writer takes its output; then it is
   * spilled.
   */
  workerExitMs: 5_000,
  /**
   * Adoption by a worker of the version before: it is told of so many of the newest commands that have ended.
   * Background children of older ones are killed.
   */
  finishedExecsTold: 100_000,
  /** Adoption of a running VM: it answers by then. */
  adoptTimeoutMs: 10_000,
  /**
   * Adoption: the workers that a predecessor left get this long to say hello before boxes are served; a later one is
   * waited for by its own box alone.
   */
  adoptPatienceMs: 1_000,
  /**
   * Supervisor: compares the host, the database and itself this often (BOXRUN_RECONCILE_MS); what is wrong twice in a
   * row is set right,
   */
  reconcileEveryMs: 60_000,
  /** ... so many things in one sweep, each within so long; the others come later, and those that fail come again, */
  reconcileStepsMax: 20,
  reconcileStepMs: 120_000,
  /** ... and so many are remembered from one sweep to the next; more are looked at when these are gone. */
  reconcileFoundMax: 1_000,
  /**
   * Restarts allowed within the window: of one box's worker (then the box goes to `error`), of each child of the keeper
   * (then `serve` ends).
   */
  workerRestartsMax: 3,
  childRestartsMax: 10,
  restartWindowMs: 60_000,
  /** A worker with no command running and no supervisor for this long leaves; its box stays. */
  orphanGraceMs: 600_000,
  /**
   * systemd: a question to it is answered by then. Without an answer a process stays in the control group of the
   * server, or goes into one beside it; the log says so.
   */
  systemdAnswerMs: 5_000,
  /** CLI: systemd has started, stopped or restarted the service by then; else the command says that it failed. */
  serviceStartMs: 180_000,

  /** Keeper: a child says it is ready by then; where the processor is emulated, the first one took more than 20 s. */
  childReadyMs: 60_000,
  /**
   * Keeper, supervisor: what a child says of itself before it is ready, in characters; one that says more is given up.
   */
  lifelineCharsMax: 64 * 1024,
  /** Keeper: TERM, then KILL after this. */
  childStopMs: 10_000,
  /** ... of a supervisor that leaves its boxes running. Where the host goes down, it stops them all the same. */
  supervisorEndMs: 30_000,
  /**
   * ... of a supervisor that stops its boxes (--on-exit stop): the longest grace, one attempt to stop, and
   * `childStopMs`. Past it the supervisor is killed, and the next one goes on with the stops.
   */
  supervisorStopMs: 600_000 + 60_000 + 10_000,

  /** CLI: of each log, so many bytes of its end go into a debug bundle; of each box, so many of its newest commands. */
  bundleLogBytesMax: 2 * 1024 * 1024,
  bundleExecsMax: 200,
  /** CLI: wait for an auto-started server. */
  autoStartMs: 30_000,

  /** Tests: a process that is held at a fault point goes on after this by itself. */
  faultHoldMs: 60_000,

  /** Unix socket paths are cut silently by the kernel past this. */
  socketPathBytesMax: 107,
} as const;
