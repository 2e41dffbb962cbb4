// The bounds that users, several files or tests depend on, grouped by their owner. A bound that matters in one file
// only is a constant there, and the SDK has its own. The name contains the unit: Ms is milliseconds, Bytes is bytes,
// Chars is UTF-16 code units; a name without a unit counts things. Each comment says what happens at the bound. This
// file imports nothing. A user may change some of them: caps.ts and config.ts use the values here as defaults.

export const limits = {
  // All processes

  /**
   * MiB of resident memory of any process. The other bounds keep a process below it; no code checks it. The load tests
   * and the tests with large files fail above it.
   */
  processMemoryMbMax: 200,
  /** The same for a gateway under load: with 40 clients that do not read a large stream, or with 500 that only wait. */
  gatewayMemoryMbMax: 256,

  /** Bytes of one IPC frame. The receiver closes a connection that announces a longer one; no sender makes one. */
  frameBytesMax: 16 * 1024 * 1024,
  /** Milliseconds for an IPC request that names no deadline. Then the caller gets TIMEOUT. */
  requestTimeoutMs: 10_000,
  /**
   * Gateway: how long a stream waits for the writer, in milliseconds. Then the stream ends, and its client connects
   * again.
   */
  followTimeoutMs: 60_000,
  /** Milliseconds to connect to a socket. Then the caller gets UNAVAILABLE. */
  connectTimeoutMs: 2_000,
  /** Milliseconds for the first message of a new connection. Then the connection is closed. */
  helloTimeoutMs: 2_000,
  /** Milliseconds between two attempts to reach a process that is down. The pause doubles up to the longest. */
  reconnectFirstMs: 10,
  reconnectLongestMs: 250,
  /** Requests of one connection without an answer. The server refuses the next one with TOO_MANY_REQUESTS. */
  requestsPendingMax: 10_000,
  /** Bytes of a Unix socket's path. The kernel silently cuts longer ones, so BoxRun chooses a shorter directory. */
  socketPathBytesMax: 107,

  /** Milliseconds between two signs of life of a process that others depend on. */
  heartbeatEveryMs: 1_000,
  /** Heartbeats that are missing in a row. Then /readyz says that the process does not answer. */
  heartbeatDoubtMisses: 2,
  /** Milliseconds of silence (BOXRUN_SILENCE_MS). Then its connections are cut, and its parent restarts it. */
  silenceMs: 8_000,
  /** Milliseconds that /readyz, /metrics and the supervisor give another process. Then it counts as not answering. */
  healthTimeoutMs: 1_000,
  /** Characters that a child says before it is ready. The parent gives up a child that says more in one line. */
  lifelineCharsMax: 64 * 1024,
  /** Milliseconds in which restarts are counted. Each owner of restarts has its own maximum below. */
  restartWindowMs: 60_000,
  /** Milliseconds for an answer of systemd. Without one, a process stays in its control group, and the log says so. */
  systemdAnswerMs: 5_000,

  // Keeper

  /** Milliseconds for a child to say that it is ready; an emulated processor has needed 20 s. Then its start fails. */
  childReadyMs: 60_000,
  /** Restarts of one child within restartWindowMs. At the next one, `serve` ends. */
  childRestartsMax: 10,
  /** Milliseconds from SIGTERM to SIGKILL for a child. */
  childStopMs: 10_000,
  /** The same for a supervisor that leaves its boxes running; longer, because at a host shutdown it stops them. */
  supervisorEndMs: 30_000,
  /**
   * The same for a supervisor that stops its boxes (--on-exit stop): stopGraceMsMax, boxStopTimeoutMs and childStopMs
   * together. Then the keeper kills it, and the next supervisor goes on with the stops.
   */
  supervisorStopMs: 600_000 + 60_000 + 10_000,

  // Supervisor: what it admits

  /** Boxes of one server, stopped ones too (--max-boxes). The next create is refused with RESOURCE_EXCEEDED. */
  boxesMax: 1_000,
  /** Bytes of free disk (--min-free-disk-mb). Below it, create and exec are refused with RESOURCE_EXCEEDED. */
  freeDiskBytesMin: 256 * 1024 * 1024,
  /** Milliseconds for which a measurement of the free disk is used. Then the supervisor measures again. */
  freeDiskStaleMs: 250,
  /** Milliseconds between two checks whether the disk is nearly full. */
  diskWatchEveryMs: 1_000,
  /** Bytes of a file that only takes room. It is removed when the disk is full, so that a removal can go on. */
  diskReserveBytes: 32 * 1024 * 1024,
  /** Volumes of a micro-VM, which has few device slots; a network takes one more. Above it VALIDATION_ERROR. */
  microVmVolumesMax: 2,
  microVmVolumesWithNetworkMax: 1,
  /** Milliseconds for which the dashboard's one-time link is valid. Then it does not open the dashboard. */
  uiCodeMs: 60_000,
  /** One-time links that are not used yet. The next one makes the oldest invalid. */
  uiCodesMax: 100,

  // Supervisor: workers

  /** Workers that start at once, per processor; others wait. A hundred together would each say hello too late. */
  workerStartsPerCpu: 2,
  /** Milliseconds for a new worker to answer on its socket. Then it is killed, and its start fails. */
  workerReadyMs: 15_000,
  /** Milliseconds for which a new spare worker waits while boxes come up or go. Then it starts all the same. */
  spareWaitMs: 5_000,
  /** Milliseconds between two pings of a worker that stops or removes a box. */
  workerPulseMs: 1_000,
  /** Pings in a row without an answer. Then the supervisor kills the worker. */
  workerPulsesMissedMax: 3,
  /** Milliseconds for a worker to give up a start that was canceled. Then the supervisor kills it. */
  cancelTimeoutMs: 10_000,
  /**
   * Milliseconds for a worker to leave. Then the supervisor kills it. The worker gives the writer half of this time to
   * take its output, then it writes a spill.
   */
  workerExitMs: 5_000,
  /** Restarts of one box's worker within restartWindowMs. At the next one, the box goes to `error`. */
  workerRestartsMax: 3,
  /** Milliseconds for workers of a dead supervisor to say hello. Then only the box of a late worker waits for it. */
  adoptHelloMs: 1_000,
  /**
   * Ended commands, the newest first, that the supervisor names to an adopted worker of the previous version. The
   * worker kills the background children of older ones.
   */
  finishedExecsNamedMax: 100_000,

  // Supervisor: boxes

  /** Boxes that come up or are removed at once, per processor; many together are slower than one after the other. */
  boxTurnsPerCpu: 2,
  /** Milliseconds after which the next box gets its turn, although the one before is not done. */
  boxTurnMs: 2_000,
  /** Milliseconds to prepare an image: pull, unpack, convert. Then the create or the import fails. */
  imagePrepareTimeoutMs: 900_000,
  /** Milliseconds to bring a box up, without its image. Then the create or the start fails. */
  boxStartTimeoutMs: 120_000,
  /** Milliseconds for one attempt to stop or remove a box, after its grace. Then another worker tries. */
  boxStopTimeoutMs: 60_000,
  boxRemoveTimeoutMs: 60_000,
  /**
   * Workers, one after the other, that try to start, stop or remove a box. Then the operation fails. If the box may
   * still run, its CPUs and memory stay reserved.
   */
  boxAttemptsMax: 3,
  /** Milliseconds from SIGTERM to SIGKILL for the processes of a box at a stop, and at a removal. */
  stopGraceMs: 5_000,
  removeGraceMs: 1_000,
  /** Milliseconds that a client may ask for instead (`graceSMax` in request-bounds.ts). Above it VALIDATION_ERROR. */
  stopGraceMsMax: 600_000,
  /** Milliseconds between two sweeps (BOXRUN_RECONCILE_MS). A sweep repairs what two sweeps in a row have found. */
  reconcileEveryMs: 60_000,
  /** Repairs in one sweep. Later sweeps do the rest, and repeat those that failed. */
  reconcileStepsMax: 20,
  /** Milliseconds for one repair. Then the sweep goes on to the next one. */
  reconcileStepMs: 120_000,
  /** Findings that are kept from one sweep to the next. Later sweeps find the others again. */
  reconcileFoundMax: 1_000,

  // Worker: commands

  /** Commands that run at once in one box (--max-execs). The next one is refused with RESOURCE_EXCEEDED. */
  execsRunningMax: 512,
  /** Milliseconds to start a command in the box. Then the exec fails. */
  execStartTimeoutMs: 60_000,
  /** Milliseconds for which the answer to an exec is held, so that a short command comes back finished. */
  execHoldLeastMs: 25,
  execHoldMostMs: 250,
  /** Milliseconds to kill a command with its children. Then the supervisor stops the box and sets it to `error`. */
  killTimeoutMs: 10_000,
  /** Milliseconds without a supervisor, a command and an open stream until a worker ends itself. Its box goes on. */
  orphanGraceMs: 600_000,

  // Worker: output of commands

  /**
   * Bytes of one output event; longer output is split. Go's bufio.Scanner takes no line of 64 KiB: base64 of an event
   * is always shorter, and so is text, unless JSON escapes make it twice as long.
   */
  eventBytesMax: 32 * 1024,
  /** Milliseconds for which output waits for more output. Then it is sent. */
  outputFlushMs: 4,
  /** Bytes of output that are sent at once, without that wait. */
  outputFlushBytes: 64 * 1024,
  /** Milliseconds for which the row of a new command waits, so that a short command is committed in one piece. */
  execRowDelayMs: 3,
  /** Bytes that the writer has not acknowledged. Then the worker stops reading the pipes of its commands. */
  unackedBytesMax: 8 * 1024 * 1024,
  /** Operations in one commit request; the rest goes into the next. */
  commitOpsMax: 512,
  /** Bytes in one commit request, far below frameBytesMax, because a short command of another box waits behind it. */
  commitBytesMax: 512 * 1024,
  /**
   * How long the worker reads the pipes of a command whose program has exited; see output-reader.ts. Then it drops the
   * rest.
   *
   * - If background children may hold the pipes, it reads in periods of exitDrainMs milliseconds. It stops after the
   *   first period that brings fewer than exitDrainBusyBytes, and after exitDrainBusyMs in any case.
   * - Without children, it reads until no byte has come for exitDrainBusyMs.
   */
  exitDrainMs: 500,
  exitDrainBusyBytes: 64 * 1024,
  exitDrainBusyMs: 30_000,
  /** Bytes kept of one command's output (--max-output-mb). The rest is dropped, and the events of the exec say so. */
  execOutputBytesMax: 4 * 1024 * 1024 * 1024,

  // Worker: streams, files and terminals

  /** Bytes in one message of a stream; a peer that sends more loses its connection. */
  streamPieceBytesMax: 256 * 1024,
  /** Milliseconds in which the token of a stream must be used. Then it is invalid. */
  streamTokenMs: 10_000,
  /** Tokens of one worker that are not used yet. The next one is refused with TOO_MANY_REQUESTS. */
  streamTokensMax: 1_000,
  /** Open streams of one worker. It closes the connection of the next one. */
  streamsOpenMax: 256,
  /** Bytes of a file on the way that the box has not confirmed. As base64 they fit into the 1 MiB buffer of BoxLite. */
  fileBlockBytes: 512 * 1024,
  /** Milliseconds for each answer of the box during a transfer. Then the transfer fails. */
  fileAnswerMs: 60_000,
  /** Milliseconds for the box to remove an unfinished upload. Then its script is killed. */
  fileTidyMs: 10_000,
  /** Bytes that the program in a terminal has not read. Then the terminal ends with RESOURCE_EXCEEDED. */
  terminalInputBytesMax: 1024 * 1024,
  /** Connections to ports of one box, with requests that wait for a port. The next one gets TOO_MANY_REQUESTS. */
  portConnectionsMax: 128,

  // Worker: drivers

  /** Milliseconds without a byte from a registry. Then IMAGE_PULL_FAILED. */
  registryTimeoutMs: 30_000,
  /** BoxLite: milliseconds for a running VM to answer the worker that adopts it. Then the VM is ended. */
  adoptTimeoutMs: 10_000,
  /** Container: processes and threads in one box. Above it, fork fails in the box with EAGAIN. */
  boxProcessesMax: 4096,
  /** Container: bytes of the host's disk that boxes cannot fill. A write beyond it ends with ENOSPC in the box. */
  diskMarginBytes: 128 * 1024 * 1024,
  /** Container: milliseconds between two looks at the host's disk. */
  diskRoomEveryMs: 500,
  /** Milliseconds for the agent to start. Without an agent, the engine starts the commands. */
  agentStartTimeoutMs: 10_000,
  /** Milliseconds for the agent of an earlier worker to answer or dial. Then its commands are killed. */
  agentAdoptTimeoutMs: 5_000,
  /** Milliseconds that an upload of an earlier worker has to clean up, after its input has ended. */
  strayInputEndMs: 1_000,
  /** Starts of the agent within restartWindowMs. Then none is tried until the window has passed. */
  agentStartsMax: 3,
  /** BoxLite: connections from a VM that have not said the agent's token. Then the oldest one is closed. */
  agentCallersMax: 8,
  /** Milliseconds between two pings of an agent that has commands. */
  agentPingMs: 5_000,
  /** Pings in a row without an answer. Then the agent is given up, and its commands are lost. */
  agentPingsUnansweredMax: 6,
  /** Milliseconds for the agent to report the end of a killed command. Then the worker ends it. */
  commandEndReportMs: 1_000,

  // Writer

  /** Bytes on the way to one gateway. Then the writer tells the gateway to read the database, and sends no more. */
  followerBufferBytesMax: 8 * 1024 * 1024,
  /** State events kept for clients that come back, and the characters of all. Older ones become `reset` there. */
  statesKeptMax: 4_096,
  statesKeptCharsMax: 8 * 1024 * 1024,
  /** Rows, milliseconds, and commands of a cleanup in one transaction of a removal. The next one does the rest. */
  deleteSliceRows: 5_000,
  deleteSliceMs: 8,
  cleanupSliceExecs: 16,
  /** The cleanup of old rows rests after each slice and checkpoint for this factor times its duration. */
  cleanupRestFactor: 4,
  /** Hours for which ended commands are kept (--retention-hours); 0: as long as their box. Then they are removed. */
  retentionHours: 0,
  /** Milliseconds for which an Idempotency-Key belongs to its first request. Then it can be used again. */
  keyLifeMs: 24 * 60 * 60 * 1000,
  /** Milliseconds to the first cleanup of old rows, and between two; keys that one transaction removes. */
  cleanupFirstMs: 2_000,
  cleanupEveryMs: 10 * 60 * 1000,
  keyCleanupSliceRows: 32,
  /** Operations in one group commit; the rest goes into the next. */
  groupOpsMax: 20_000,
  /** Bytes of output that make a change large. One group of smaller changes is committed before it. */
  largeChangeBytes: 128 * 1024,
  /**
   * After the writer has committed large output, it pauses further large changes for this factor times the duration of
   * that commit, but at most for largeChangeRestMaxMs. It does so only if another box has waited for a commit within
   * the last largeChangeYieldMs.
   */
  largeChangeRestFactor: 10,
  largeChangeRestMaxMs: 100,
  largeChangeYieldMs: 250,
  /** Milliseconds without a keeper and a worker. Then the writer ends. */
  writerIdleExitMs: 5_000,

  // Gateway: processes

  /** Gateways on one port; more than processors is of no use. More get VALIDATION_ERROR. */
  gatewaysMax: 64,
  /** Milliseconds between two reports of one of several gateways, so that each can show the figures of all. */
  gatewayReportEveryMs: 5_000,
  /** Milliseconds for a predecessor to free the address. Then the start fails. */
  listenWaitMs: 4_000,
  /** Milliseconds for the other processes to answer at the start. Then the gateway takes requests without them. */
  peersWaitMs: 5_000,
  /** Milliseconds for streams to end at shutdown. Then their connections are cut. */
  gatewayCloseMs: 3_000,
  /** Milliseconds between two samples of `/v1/usage`, and samples that are kept: one hour. */
  usageSampleMs: 5_000,
  usageSamplesMax: 720,
  /** Answers of one kind whose duration counts in a sample. Further ones are not measured. */
  usageTimesMax: 1_000,

  // Gateway: clients. Connections, requests and streams count per client. A client that already holds bytes gets at
  // most half of a byte budget (budget.ts)

  /** Connections of one client, added to --max-streams. The next one gets 429. */
  connectionsBesideStreamsMax: 1_000,
  /** Requests under way of one client, added to --max-streams. The next one gets 429, and its connection is closed. */
  requestsBesideStreamsMax: 4_000,
  /** Event streams and WebSockets of one client (--max-streams). The next one gets TOO_MANY_REQUESTS. */
  streamsPerClientMax: 1_000,
  /** Uploads and downloads of one client. The next one gets TOO_MANY_REQUESTS. */
  transfersPerClientMax: 128,
  /** Characters of the token for TCP. Another length gets VALIDATION_ERROR when the server starts. */
  tokenLengthLeast: 16,
  tokenLengthMost: 512,
  /** Milliseconds for which the dashboard's cookie is valid. Then the browser needs a new link. */
  uiCookieMs: 12 * 60 * 60 * 1000,

  // Gateway: requests and answers

  /** Bytes of one JSON body (--max-body-mb). Above it 413. */
  bodyBytesMax: 1024 * 1024,
  /**
   * Bytes of all bodies under way; one client may always send one. Then TOO_MANY_REQUESTS. A parsed body takes up to
   * ten times its length.
   */
  bodiesHeldBytesMax: 8 * 1024 * 1024,
  /** Milliseconds for a body to arrive. Then its connection is cut. */
  bodyTimeoutMs: 60_000,
  /** Bytes of all answers that clients do not read. Then reads get TOO_MANY_REQUESTS, and long lists wait. */
  unreadBytesMax: 16 * 1024 * 1024,
  /** Bytes of a body or an answer; shorter ones do not count in these budgets. */
  heldBytesCounted: 4 * 1024,
  /** Characters of an Idempotency-Key, and of the id at which a client resumes. More get VALIDATION_ERROR. */
  keyLengthMax: 255,
  stateIdLengthMax: 64,
  /** Seconds that a GET of an exec may wait for its end. More get VALIDATION_ERROR. */
  execWaitMaxS: 300,
  /** Rows in one page of a list, and label filters in one request. More get VALIDATION_ERROR. */
  pageRowsMax: 1_000,
  labelFiltersMax: 16,
  /** Unknown fields of a body that a warning names, and how many characters of each name it has. */
  unknownFieldsNamed: 10,
  unknownFieldChars: 64,
  /** Prepared statements for lists that a reader keeps. At the next one it drops all and prepares them anew. */
  listStatementsMax: 64,
  /** Characters of answers that are kept until the next commit. Then all are dropped, and read again. */
  answersKeptChars: 4 * 1024 * 1024,
  /** Threads that read the database, and calls that wait for one. The next call gets UNAVAILABLE. */
  readerThreads: 2,
  readerQueueMax: 4_096,
  /** Milliseconds between two `102 Processing` for a request that takes long. */
  processingEveryMs: 10_000,
  /** Bytes of an upload between two looks at the free disk, while the gateway stores it until its destination comes. */
  spoolCheckBytes: 8 * 1024 * 1024,
  /** Milliseconds for which the rest of a refused upload is read and dropped. Then its connection is cut. */
  uploadRefusedMs: 60_000,

  // Gateway: output of runs

  /** Bytes kept of each of stdout and stderr of a run. The rest is cut, and the answer says so. */
  runOutputBytesMax: 16 * 1024 * 1024,
  /** Bytes of all runs whose clients have not read them. Then runs are cut earlier. */
  runsOutputBytesMax: 48 * 1024 * 1024,
  /** Bytes of each of stdout and stderr that are kept to repeat the answer under a key. The rest is cut. */
  keptOutputBytesMax: 512 * 1024,

  // Gateway: event streams

  /** Events in one page of history, and its bytes. The reader then asks for the next page. */
  replayPageEvents: 512,
  replayPageBytes: 512 * 1024,
  /** Bytes of all pages that clients have not taken yet. Then pages become smaller, down to the least. */
  replayBytesMax: 8 * 1024 * 1024,
  replayPageBytesLeast: 16 * 1024,
  /** A page whose events have at most so many bytes on average is copied in one buffer; the next one is read ahead. */
  smallEventBytes: 256,
  /** Bytes of live events that wait for one client. Then they are dropped, and read from the database later. */
  feedBufferBytesMax: 1024 * 1024,
  /** The same for all clients together. One message for each client does not count. */
  feedsBufferBytesMax: 16 * 1024 * 1024,
  /** Characters that are written to a client in one piece; a longer event is one piece. */
  ssePieceChars: 64 * 1024,
  /** Milliseconds until an idle event stream gets a comment line (BOXRUN_SSE_HEARTBEAT_MS), and the range of it. */
  sseHeartbeatMs: 10_000,
  sseHeartbeatMsLeast: 10,
  sseHeartbeatMsMost: 15_000,

  // Gateway: WebSockets

  /** Bytes that one client has not read. Then the gateway stops reading the worker's stream. */
  webSocketBufferBytesMax: 1024 * 1024,
  /** Bytes of all WebSockets together. Each gets an equal share, but not less than the least. */
  webSocketsBufferBytesMax: 8 * 1024 * 1024,
  webSocketBufferBytesLeast: 16 * 1024,
  /** Bytes of one message from a client. Above it the connection is closed. */
  webSocketMessageBytesMax: 4 * 1024 * 1024,
  /** Bytes of all messages that are incomplete or wait for the box. Then the WebSocket is closed: TOO_MANY_REQUESTS. */
  webSocketsIncomingBytesMax: 16 * 1024 * 1024,
  /** Milliseconds between two pings. A client that has not answered by the next one is cut. */
  webSocketPingMs: 20_000,

  // Images

  /** Pulls without a box that are under way at once. The next one gets TOO_MANY_REQUESTS. */
  imagePullsMax: 4,
  /** Bytes of all holes in the files of a layer, which become zeros on the disk. Above it the image is refused. */
  imageHoleBytesMax: 8 * 1024 ** 3,
  /** Pieces of data between the holes of one file. Above it the image is refused. */
  sparsePiecesMax: 1_000_000,

  // Command line

  /** Milliseconds for an auto-started server to answer. Then the command fails with UNAVAILABLE. */
  autoStartMs: 30_000,
  /** Milliseconds that an auto-start waits for a server that is up, but does not answer at this address. */
  otherServerMs: 5_000,
  /** Boxes for which one command has a request under way at the same time. The others wait. */
  cliBoxesAtOnce: 8,
  /** Milliseconds without output. Then a command says what it waits for. */
  waitNoticeMs: 300,
  /** Milliseconds for systemd to start, stop or restart the service. Then the command fails. */
  serviceStartMs: 180_000,

  // Tests

  /** Milliseconds for which a process stays at a fault point. Then it goes on by itself. */
  faultHoldMs: 60_000,
} as const;
