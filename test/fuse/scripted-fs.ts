/** A file system that does what a test says and keeps what it was asked. */
import type { FileSystem } from '../../src/vfs/operations.ts';

export type Call = readonly [method: string, ...args: unknown[]];

/** Answers of methods, by name: a value that is returned, or a function that is called. */
export type Script = { readonly [method in keyof FileSystem]?: unknown };

export function scriptedFs(script: Script, calls: Call[]): FileSystem {
  return new Proxy({} as FileSystem, {
    get(_target, method: string) {
      return (...args: unknown[]) => {
        calls.push([method, ...args]);
        const answer = script[method as keyof FileSystem];
        return typeof answer === 'function' ? answer(...args) : answer;
      };
    },
  });
}
