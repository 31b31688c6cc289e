/**
 * Imported for its effect by whatever starts servers, daemons or mounts: told to end, by Ctrl-C, a
 * lost terminal or the runner's time limit, a test process still leaves by its exit handlers, which
 * clean up. The exit status is the shell's for that signal.
 */
const STATUS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

for (const [signal, status] of Object.entries(STATUS)) {
  // Every time: the second of two signals must not cut the cleaning short.
  process.on(signal, () => process.exit(status));
}
