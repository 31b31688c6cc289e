/**
 * Random changes of a small tree, ours and another client's, against a plain model of names.
 *
 * What must hold: every call ends as the model says, every name leads to its file and always to
 * the same inode, listings are complete, open files keep their bytes whatever becomes of their
 * names, and at the end the server's tree is the model's, with nothing hidden left.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { HandleId, Ino } from '../../src/base/brand.ts';
import { ROOT_INO } from '../../src/vfs/operations.ts';
import { alice, by, errno, Mounted, name, O_RDWR, settled, value } from './mounted.ts';

interface Node {
  readonly kind: 'file' | 'directory';
  readonly children: Map<string, Node>;
  readonly bytes: string;
  opens: number;
  hiddenIn: Node | undefined;
}

type Path = readonly [string, string];

type Action =
  | { kind: 'create' | 'mkdir' | 'unlink' | 'rmdir' | 'lookup' | 'open'; at: Path }
  | { kind: 'rename' | 'renameNoReplace' | 'link'; at: Path; to: Path }
  | { kind: 'list'; directory: string; plus: boolean }
  | { kind: 'close' | 'wait' }
  | { kind: 'foreignCreate' | 'foreignDelete'; at: Path };

const names = ['a', 'b', 'c'];
/** Few, so that actions meet. */
const directories = ['', '', '', 'a'];
/** A directory of the root ('' is the root itself), and a name in it. */
const path = fc.tuple(fc.constantFrom(...directories), fc.constantFrom(...names));
const actions: fc.Arbitrary<Action> = fc.oneof(
  fc.record({
    kind: fc.constantFrom(
      'create' as const,
      'mkdir' as const,
      'unlink' as const,
      'rmdir' as const,
      'lookup' as const,
      'lookup' as const,
      'open' as const,
      'foreignCreate' as const,
      'foreignDelete' as const,
    ),
    at: path,
  }),
  fc.record({
    kind: fc.constantFrom('rename' as const, 'renameNoReplace' as const, 'link' as const),
    at: path,
    to: path,
  }),
  fc.record({
    kind: fc.constant('list' as const),
    directory: fc.constantFrom(...directories),
    plus: fc.boolean(),
  }),
  fc.record({ kind: fc.constantFrom('close' as const, 'wait' as const) }),
);

class Run {
  readonly #mounted: Mounted;
  readonly #root = newNode('directory');
  readonly #inos = new Map<Node, Ino>();
  readonly #open: { readonly handle: HandleId; readonly node: Node }[] = [];
  #made = 0;

  constructor(nameCacheEntries: number, directoryPageBytes: number) {
    this.#mounted = new Mounted({ nameCacheEntries, directoryPageBytes });
    this.#inos.set(this.#root, ROOT_INO);
  }

  async all(list: readonly Action[]): Promise<void> {
    for (const action of list) {
      await this.#do(action);
      await this.#checkOpenFiles();
    }
    for (const { handle, node } of this.#open) this.#release(handle, node);
    await this.#mounted.fs.close();
    assert.deepEqual(this.#serverTree('/'), treeOf(this.#root));
    assert.equal(this.#mounted.fs.figures().openHandles, 0);
  }

  async #do(action: Action): Promise<void> {
    switch (action.kind) {
      case 'wait':
        this.#mounted.clock.advance(61_000);
        return;
      case 'close': {
        const oldest = this.#open.shift();
        if (oldest !== undefined) this.#release(oldest.handle, oldest.node);
        return settled();
      }
      case 'list':
        return this.#list(action.directory, action.plus);
      case 'foreignCreate':
      case 'foreignDelete':
        return this.#foreign(action.kind, action.at);
      case 'rename':
      case 'renameNoReplace':
        return this.#rename(action.at, action.to, action.kind === 'renameNoReplace');
      case 'link':
        return this.#link(action.at, action.to);
      case 'create':
      case 'mkdir':
      case 'unlink':
      case 'rmdir':
      case 'lookup':
      case 'open':
        return this.#single(action.kind, action.at);
    }
  }

  async #single(
    kind: 'create' | 'mkdir' | 'unlink' | 'rmdir' | 'lookup' | 'open',
    at: Path,
  ): Promise<void> {
    const parent = this.#directory(at[0]);
    if (parent === undefined) return;
    const node = parent.children.get(at[1]);
    const { fs } = this.#mounted;
    const where = [by(alice), await this.#ino(at[0]), name(at[1])] as const;
    switch (kind) {
      case 'create': {
        if (node?.kind === 'directory') return;
        const made = value(await fs.create(...where, 0o644, O_RDWR));
        const file = node ?? newNode('file', `own ${++this.#made}`);
        if (node === undefined) {
          parent.children.set(at[1], file);
          await this.#mounted.write(made.opened.handle, 0, file.bytes);
        }
        this.#sameIno(file, made.entry.ino);
        this.#opened(made.opened.handle, file);
        return;
      }
      case 'mkdir': {
        const made = await fs.mkdir(...where, 0o777);
        assert.equal(errno(made), node === undefined ? 'ok' : 'EEXIST');
        if (made.ok) this.#sameIno(setNew(parent, at[1], newNode('directory')), made.value.ino);
        return;
      }
      case 'unlink': {
        const expected = node === undefined ? 'ENOENT' : kindError(node, 'EISDIR');
        assert.equal(errno(await fs.unlink(...where)), expected);
        if (expected === 'ok' && node !== undefined) this.#nameGone(parent, at[1], node);
        return;
      }
      case 'rmdir': {
        const expected = this.#rmdirOutcome(node);
        assert.equal(errno(await fs.rmdir(...where)), expected);
        if (expected === 'ok') parent.children.delete(at[1]);
        return;
      }
      case 'lookup':
        return this.#checkName(at);
      case 'open': {
        if (node?.kind !== 'file') return;
        const { ino } = value(await fs.lookup(...where));
        this.#opened(value(await fs.open(by(alice), ino as Ino, O_RDWR)).handle, node);
        return;
      }
    }
  }

  async #rename(at: Path, to: Path, noReplace: boolean): Promise<void> {
    const [from, target] = [this.#directory(at[0]), this.#directory(to[0])];
    if (from === undefined || target === undefined) return;
    const [node, existing] = [from.children.get(at[1]), target.children.get(to[1])];
    // What the kernel refuses, or does, by itself.
    if (node === existing || node === target || existing === from) return;
    const depth = node?.kind === 'directory' && target !== this.#root;
    if (depth) return;
    const expected =
      node === undefined
        ? 'ENOENT'
        : existing !== undefined
          ? noReplace
            ? 'EEXIST'
            : this.#replaceOutcome(node, existing)
          : 'ok';
    const result = await this.#mounted.fs.rename(
      by(alice),
      await this.#ino(at[0]),
      name(at[1]),
      await this.#ino(to[0]),
      name(to[1]),
      noReplace ? 1 : 0,
    );
    assert.equal(errno(result), expected);
    if (expected === 'ok' && node !== undefined) {
      if (existing !== undefined) this.#nameGone(target, to[1], existing);
      from.children.delete(at[1]);
      target.children.set(to[1], node);
    }
    await this.#checkName(at);
    await this.#checkName(to);
  }

  async #link(at: Path, to: Path): Promise<void> {
    const [from, target] = [this.#directory(at[0]), this.#directory(to[0])];
    const node = from?.children.get(at[1]);
    if (target === undefined || node?.kind !== 'file') return;
    const { ino } = value(
      await this.#mounted.fs.lookup(by(alice), await this.#ino(at[0]), name(at[1])),
    );
    const parent = await this.#ino(to[0]);
    const linked = await this.#mounted.fs.link(by(alice), ino as Ino, parent, name(to[1]));
    assert.equal(errno(linked), target.children.has(to[1]) ? 'EEXIST' : 'ok');
    if (!linked.ok) return;
    target.children.set(to[1], node);
    this.#sameIno(node, linked.value.ino);
  }

  /** Another client's change, seen when the attributes have expired. */
  async #foreign(kind: 'foreignCreate' | 'foreignDelete', at: Path): Promise<void> {
    const parent = this.#directory(at[0]);
    const node = parent?.children.get(at[1]);
    if (parent === undefined) return;
    const where = `${at[0] === '' ? '' : `/${at[0]}`}/${at[1]}`;
    if (kind === 'foreignCreate' && node === undefined) {
      const made = setNew(parent, at[1], newNode('file', `foreign ${++this.#made}`));
      this.#mounted.server.putFile(where, made.bytes);
    } else if (kind === 'foreignDelete' && node?.kind === 'file' && node.opens === 0) {
      this.#mounted.server.deletePath(where);
      parent.children.delete(at[1]);
    }
    this.#mounted.clock.advance(61_000);
    await this.#checkName(at);
  }

  async #list(directory: string, plus: boolean): Promise<void> {
    const node = this.#directory(directory);
    if (node === undefined) return;
    const ino = await this.#ino(directory);
    const handle = value(await this.#mounted.fs.opendir(by(alice), ino));
    const listed = await this.#mounted.list(handle, plus);
    this.#mounted.fs.releasedir(handle);
    const seen = listed.names.filter((it) => !it.startsWith('.'));
    assert.deepEqual(seen.sort(), [...node.children.keys()].sort());
    const hidden = this.#open.filter((file) => file.node.hiddenIn === node);
    const inodes = new Set(hidden.map((file) => file.node)).size;
    assert.equal(listed.names.length, seen.length + 2 + inodes);
  }

  async #checkName(at: Path): Promise<void> {
    const parent = this.#directory(at[0]);
    if (parent === undefined) return;
    const node = parent.children.get(at[1]);
    const ino = await this.#ino(at[0]);
    const found = value(await this.#mounted.fs.lookup(by(alice), ino, name(at[1])));
    if (node === undefined) {
      assert.equal(found.ino, 0, `${at.join('/')} does not exist`);
      return;
    }
    assert('attributes' in found, `${at.join('/')} exists`);
    this.#sameIno(node, found.ino);
    const type = node.kind === 'file' ? 'regular' : 'directory';
    assert.equal(found.attributes.type, type);
    assert.equal(type === 'regular' ? found.attributes.size : 0, node.bytes.length);
  }

  async #checkOpenFiles(): Promise<void> {
    for (const { handle, node } of this.#open) {
      assert.equal((await this.#mounted.read(handle, 0, 100)).toString(), node.bytes);
    }
  }

  #rmdirOutcome(node: Node | undefined): string {
    if (node === undefined) return 'ENOENT';
    if (node.kind === 'file') return 'ENOTDIR';
    return this.#isEmpty(node) ? 'ok' : 'ENOTEMPTY';
  }

  #replaceOutcome(node: Node, existing: Node): string {
    if (existing.kind === 'directory' && node.kind === 'file') return 'EISDIR';
    if (existing.kind === 'file' && node.kind === 'directory') return 'ENOTDIR';
    return existing.kind === 'file' || this.#isEmpty(existing) ? 'ok' : 'ENOTEMPTY';
  }

  #isEmpty(node: Node): boolean {
    return node.children.size === 0 && !this.#open.some((file) => file.node.hiddenIn === node);
  }

  /** A name was removed: an open file is hidden in its directory, if it is not hidden yet. */
  #nameGone(parent: Node, text: string, node: Node): void {
    parent.children.delete(text);
    if (node.opens > 0) node.hiddenIn ??= parent;
  }

  #opened(handle: HandleId, node: Node): void {
    node.opens += 1;
    this.#open.push({ handle, node });
  }

  #release(handle: HandleId, node: Node): void {
    this.#mounted.fs.release(handle);
    node.opens -= 1;
    if (node.opens === 0) node.hiddenIn = undefined;
  }

  #directory(text: string): Node | undefined {
    if (text === '') return this.#root;
    const node = this.#root.children.get(text);
    return node?.kind === 'directory' ? node : undefined;
  }

  async #ino(directory: string): Promise<Ino> {
    if (directory === '') return ROOT_INO;
    const found = value(await this.#mounted.fs.lookup(by(alice), ROOT_INO, name(directory)));
    const node = this.#directory(directory);
    assert(node !== undefined && found.ino !== 0);
    this.#sameIno(node, found.ino);
    return found.ino;
  }

  #sameIno(node: Node, ino: Ino): void {
    const known = this.#inos.get(node) ?? ino;
    assert.equal(ino, known, 'one inode a file');
    this.#inos.set(node, known);
  }

  #serverTree(where: string): unknown {
    const { server } = this.#mounted;
    return server.namesIn(where).map((it) => {
      const full = `${where}${it}`;
      const isDirectory = server.attributesAt(full).type === 'directory';
      return [it, isDirectory ? this.#serverTree(`${full}/`) : server.bytesOf(full).toString()];
    });
  }
}

function newNode(kind: Node['kind'], bytes = ''): Node {
  return { kind, children: new Map(), bytes, opens: 0, hiddenIn: undefined };
}

function setNew(parent: Node, text: string, node: Node): Node {
  parent.children.set(text, node);
  return node;
}

function kindError(node: Node, error: string): string {
  return node.kind === 'file' ? 'ok' : error;
}

function treeOf(node: Node): unknown {
  return [...node.children]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([text, child]) => [text, child.kind === 'file' ? child.bytes : treeOf(child)]);
}

describe('names', () => {
  it('are those of the model, ours and the other client’s', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(actions, { maxLength: 60, size: 'max' }),
        fc.constantFrom(1, 3, 1000),
        fc.constantFrom(400, 100_000),
        (list, nameCacheEntries, pageBytes) => new Run(nameCacheEntries, pageBytes).all(list),
      ),
      { numRuns: 400 },
    );
  });
});
