#!/usr/bin/env node
/**
 * gvfs COMMAND: what is not mounting.
 */
import { runGvfs } from './run-gvfs.ts';
import { systemShell } from './shell.ts';

process.exit(await runGvfs(process.argv.slice(2), systemShell()));
