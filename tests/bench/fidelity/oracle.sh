#!/usr/bin/env bash
# Whether two trees are the same to programs that are not RaidTape: rsync, find, getfattr, getfacl, lsattr, and the file
# system's own map of holes (SEEK_DATA). As root, it sees all.
#
#     oracle.sh TREE TREE [NAME]...
#
# NAME: what lies directly in the trees and is left out. Exit 0 and silence about what is the same; else 1 and what is not.
set -uo pipefail
[ $# -ge 2 ] || { sed -n '2,8s/^# \?//p' "$0" >&2; exit 2; }
one=$(realpath "$1") other=$(realpath "$2")
shift 2
skip=("$@") scratch=$(mktemp -d) bad=0
trap 'rm -rf "$scratch"' EXIT
export LC_ALL=C

for tool in rsync find getfattr getfacl lsattr python3; do
  command -v "$tool" >/dev/null || { echo "oracle.sh: $tool is missing" >&2; exit 2; }
done

# Names without those that are left out, for find.
prune=(-false)
for name in ${skip[@]+"${skip[@]}"}; do prune+=(-o -path "./$name"); done
tops() { find . -mindepth 1 -maxdepth 1 \( "${prune[@]}" \) -o -mindepth 1 -maxdepth 1 -print0 | sort -z; }

stats() {
  find . \( "${prune[@]}" \) -prune -o \
    \( -type d -printf '%p %y %m %U %G %n %T@\0' -o -printf '%p %y %m %U %G %n %T@ %l %s\0' \) | sort -z | tr '\0' '\n'
  find . \( "${prune[@]}" \) -prune -o \( -type b -o -type c \) -exec stat -c '%n %t:%T' {} + | sort
}
xattrs() { tops | xargs -0r getfattr -R -P -h -d -m - -e hex -- 2>/dev/null | python3 -c '
import sys
blocks = sys.stdin.buffer.read().split(b"\n\n")
for block in sorted(b"\n".join(sorted(block.split(b"\n"))) for block in blocks if b"=" in block):
    sys.stdout.buffer.write(block + b"\n\n")'; }
acls() { tops | xargs -0r getfacl -R -P -n -- 2>/dev/null; }
# What only says how a file system stores a file is left out.
flags() { tops | xargs -0r lsattr -aRp -- 2>/dev/null | grep ' \./' | grep -v '/\.\.$' | sed -E 's/^( *[0-9]+) +([^ ]+)/\1 \2/; :a; s/^( *[0-9]+ [^ ]*)[-eIENhVm]([^ ]* )/\1\2/; ta' | sort; }
holes() { find . \( "${prune[@]}" \) -prune -o -type f -print0 | sort -z | python3 -c '
import errno, os, sys
for name in sys.stdin.buffer.read().split(b"\0")[:-1]:
    try:
        fd = os.open(name, os.O_RDONLY)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            continue
        raise
    size, at, data = os.fstat(fd).st_size, 0, []
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        data.append((start, at))
    os.close(fd)
    if data != [(0, size)]:
        print(name, data)'; }

for look in stats xattrs acls flags holes; do
  (cd "$one" && $look) >"$scratch/one" 2>"$scratch/error-one"
  (cd "$other" && $look) >"$scratch/other" 2>"$scratch/error-other"
  if ! cmp -s "$scratch/one" "$scratch/other"; then
    echo "$look:"
    diff -a "$scratch/one" "$scratch/other" | head -20
    bad=1
  fi
  cat "$scratch/error-one" "$scratch/error-other" >&2
  echo "$look: $(wc -l <"$scratch/one") lines looked at" >&2
done
excludes=()
for name in ${skip[@]+"${skip[@]}"}; do excludes+=("--exclude=/$name"); done
for pair in "$one/ $other/" "$other/ $one/"; do
  read -r from to <<<"$pair"
  said=$(rsync -naHAXSc --numeric-ids --delete --itemize-changes ${excludes[@]+"${excludes[@]}"} "$from" "$to" 2>&1)
  if [ -n "$said" ]; then
    echo "rsync $from -> $to:"
    head -20 <<<"$said"
    bad=1
  fi
done
exit $bad
