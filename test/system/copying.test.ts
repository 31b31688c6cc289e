import { it } from 'node:test';
import { inBothWorlds } from '../mount/worlds.ts';

/** A tree with what copies get wrong: holes, links, modes, times, odd names, empty things. */
const MAKE_TREE = `
make_tree() {
  mkdir -p "$1/sub/deeper" "$1/empty"
  head -c 3000000 /dev/urandom >"$1/random"
  head -c 100000 /dev/urandom >"$1/sub/smaller"
  : >"$1/sub/nothing"
  truncate -s 40M "$1/sparse"
  head -c 500000 /dev/urandom | dd of="$1/sparse" bs=1M seek=7 conv=notrunc status=none
  head -c 4096 /dev/urandom | dd of="$1/sparse" bs=1M seek=39 conv=notrunc status=none
  printf 'odd' >"$1/sub/$(printf 'new\\nline \\377')"
  ln "$1/random" "$1/sub/deeper/hard"
  ln -s ../random "$1/sub/soft"
  mkfifo "$1/sub/fifo"
  chmod 4750 "$1/sub/smaller"
  chmod 1777 "$1/empty"
  touch -d '2001-02-03 04:05:06.123456789 UTC' "$1/random" "$1/sub/smaller"
  touch -h -d '1999-01-01 00:00:00.5 UTC' "$1/sub/soft"
  chown 1000:2000 "$1/sub/nothing"
}
# The tree's names, contents and attributes, to compare; but not times of links (and so rsync -J):
# nfs-ganesha says yes to them and leaves them as they are.
fingerprint() {
  (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum &&
    find . -mindepth 1 -printf '%P %y %m %U:%G %l %n\\n' | sort &&
    find . -mindepth 1 -type f -printf '%P %s %T@\\n' | sort)
}
`;

inBothWorlds('copying', (place) => {
  it('cp keeps holes, or fills them, and every byte', async () => {
    await place.children.sh(
      `${MAKE_TREE}
       local=$(mktemp -d); trap 'rm -rf "$local"' EXIT
       make_tree "$local/tree"; cd "$1"
       for sparse in always auto never; do
         cp --sparse=$sparse "$local/tree/sparse" in.$sparse
         cmp "$local/tree/sparse" in.$sparse
         cp --sparse=$sparse in.$sparse "$local/out.$sparse"
         cmp "$local/tree/sparse" "$local/out.$sparse"
         cp --sparse=$sparse in.$sparse within.$sparse
         cmp in.$sparse within.$sparse
       done
       test "$(du -k in.always | cut -f1)" -lt 4096
       test "$(du -k in.never | cut -f1)" ${place.delaysWrites ? '-lt 4096' : '-ge 40000'}`,
      [place.directory],
    );
  });

  it('cp -a keeps owners, modes, times and links, in and out', async () => {
    await place.children.sh(
      `${MAKE_TREE}
       local=$(mktemp -d); trap 'rm -rf "$local"' EXIT
       make_tree "$local/tree"
       cp -a "$local/tree" "$1/copied"
       cp -a "$1/copied" "$local/back"
       mv "$1/copied" "$1/moved"
       diff <(fingerprint "$local/tree") <(fingerprint "$1/moved")
       diff <(fingerprint "$local/tree") <(fingerprint "$local/back")
       rm -r "$1/moved"
       test ! -e "$1/moved"`,
      [place.directory],
    );
  });

  it('rsync -a moves nothing the second time', async () => {
    await place.children.sh(
      `${MAKE_TREE}
       local=$(mktemp -d); trap 'rm -rf "$local"' EXIT
       make_tree "$local/tree"
       rsync -aHSJ "$local/tree/" "$1/synced/"
       diff <(fingerprint "$local/tree") <(fingerprint "$1/synced")
       moved=$(rsync -aHSJ --itemize-changes "$local/tree/" "$1/synced/")
       test -z "$moved" || { echo "moved again: $moved"; exit 1; }
       rsync -aHSJ "$1/synced/" "$local/back/"
       moved=$(rsync -aHSJ --itemize-changes "$1/synced/" "$local/back/")
       test -z "$moved" || { echo "moved again: $moved"; exit 1; }
       echo more >>"$local/tree/sub/nothing"
       rsync -aHSJ --inplace "$local/tree/" "$1/synced/"
       moved=$(rsync -aHSJ --checksum --itemize-changes "$local/tree/" "$1/synced/")
       test -z "$moved" || { echo "moved again: $moved"; exit 1; }`,
      [place.directory],
    );
  });

  it('tar -S takes a tree away and brings it back', async () => {
    await place.children.sh(
      `${MAKE_TREE}
       make_tree "$1/tree"
       tar -cS --format=posix -f "$1/tree.tar" -C "$1" tree
       test "$(stat -c %s "$1/tree.tar")" -lt 10000000
       mkdir "$1/back"
       tar -xSpf "$1/tree.tar" -C "$1/back"
       diff <(fingerprint "$1/tree") <(fingerprint "$1/back/tree")
       tar -df "$1/tree.tar" -C "$1"`,
      [place.directory],
    );
  });

  it('git clones, commits, repacks and finds nothing wrong', async () => {
    await place.children.sh(
      `local=$(mktemp -d); trap 'rm -rf "$local"' EXIT
       export HOME=$local GIT_CONFIG_NOSYSTEM=1
       git config --global user.email tester@example.org
       git config --global user.name Tester
       git config --global init.defaultBranch main
       git init -q "$local/origin"; cd "$local/origin"
       for commit in 1 2 3 4 5; do
         mkdir -p "dir$commit"
         for file in $(seq 40); do head -c 2000 /dev/urandom | base64 >"dir$commit/$file"; done
         git add . && git commit -q -m "commit $commit"
       done
       git clone -q "$local/origin" "$1/clone"; cd "$1/clone"
       git fsck --full --strict
       test -z "$(git status --porcelain)"
       echo changed >dir1/1; git mv dir2/2 dir3/renamed; git rm -q dir4/4
       git commit -qam 'changed on the mount'
       git checkout -q -b side HEAD~3 && git merge -q --no-edit main
       git gc -q --aggressive --prune=now
       git fsck --full --strict
       git push -q "$local/origin" HEAD:refs/heads/from-the-mount
       git -C "$local/origin" fsck --full
       test "$(git rev-parse HEAD)" = "$(git -C "$local/origin" rev-parse from-the-mount)"
       git archive HEAD | tar -t >"$local/list"; test "$(wc -l <"$local/list")" -ge 199`,
      [place.directory],
    );
  });
});
