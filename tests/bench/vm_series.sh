#!/usr/bin/env bash
# Makes DIR/1 … DIR/5: one image of a machine's disk as a nightly backup would find it, for `cargo bench --bench trial -- DIR/*`.
#
# The first is a sparse 6 GiB ext4 with a /usr and a database of 200 MiB. From night to night, through a real mount: pages
# of the database written at random, a log that grows, packages replaced by others of the same length, directories
# copied and removed. Root, for the loop mount; 15 GB.
set -euo pipefail

dir=${1:?usage: vm_series.sh DIR}
mkdir -p "$dir/1" "$dir/mnt"
cd "$dir"
truncate -s 6G 1/vm.img
mkfs.ext4 -q -d /usr 1/vm.img

night() {
  local number=$1
  mount -o loop "$number/vm.img" mnt
  trap 'umount mnt' EXIT
  [ -e mnt/database ] || head -c 148M /dev/urandom | base64 -w 100 >mnt/database
  for _ in $(seq 2000); do
    printf 'night %s, row %s' "$number" "$RANDOM$RANDOM" |
      dd of=mnt/database bs=4096 seek=$((RANDOM * RANDOM % 51200)) conv=notrunc status=none
  done
  seq -f "night $number: line %.0f of what a service has to say" 400000 >>mnt/log
  mapfile -t tools < <(find mnt/bin -type f -size +100k | sort)
  for tool in "${tools[@]:number*40:40}"; do
    cp "$tool" mnt/new && printf 'v%s' "$number" | dd of=mnt/new bs=1 seek=4096 conv=notrunc status=none && mv mnt/new "$tool"
  done
  case $number in
    2) cp -a mnt/share/locale mnt/share/locale2 ;;
    3) rm -rf mnt/share/doc ;;
    4) cp -a mnt/lib/python3 mnt/lib/python4 ;;
    5) rm -rf mnt/share/locale2 ;;
  esac
  umount mnt
  trap - EXIT
}

night 1
for number in 2 3 4 5; do
  mkdir "$number"
  cp --sparse=always "$((number - 1))/vm.img" "$number/"
  night "$number"
done
rmdir mnt
