#!/usr/bin/env bash
# Makes the corpora tree-v1, tree-v2, big-v1 and big-v2 under DIR: 20 GB, root for a loop mount, Debian for the packages.
#
# tree: Debian's linux-source-6.1 unpacked, the oldest that apt offers; v2 is 6.1.187, or the newest, in its place.
# big: the tar of that tree, a sparse 6 GiB ext4 image of /usr, and what does not compress; in v2 the other tar, and the
# image after real writes to it through a mount.
set -euo pipefail

dir=${1:?usage: corpora.sh DIR}
mkdir -p "$dir/dl"
cd "$dir"
apt-get update -qq
versions=$(apt-cache madison linux-source-6.1 | awk '{print $3}' | sort -uV)
declare -A package=([v1]=$(head -1 <<<"$versions") [v2]=$(grep -m1 '^6.1.187' <<<"$versions" || tail -1 <<<"$versions"))

for version in v1 v2; do
  [ -d "tree-$version" ] && continue
  (cd dl && apt-get download -qq "linux-source-6.1=${package[$version]}" &&
    dpkg -x "linux-source-6.1_${package[$version]}_all.deb" "x-$version")
  mkdir "tree-$version"
  tar xf "dl/x-$version/usr/src/linux-source-6.1.tar.xz" -C "tree-$version" --strip-components=1
done

if [ ! -d big-v1 ]; then
  mkdir big-v1
  tar cf big-v1/linux.tar tree-v1
  cp dl/*.deb big-v1/
  cat dl/x-v1/usr/src/*.xz dl/x-v2/usr/src/*.xz >big-v1/media.bin
  truncate -s 6G big-v1/vm.img
  mkfs.ext4 -q -d /usr big-v1/vm.img
fi

if [ ! -d big-v2 ]; then
  mkdir -p big-v2 mnt
  tar cf big-v2/linux.tar tree-v2
  cp big-v1/*.deb big-v1/media.bin big-v2/
  cp --sparse=always big-v1/vm.img big-v2/
  mount -o loop big-v2/vm.img mnt
  trap 'umount mnt' EXIT
  rm -rf mnt/share/doc
  cp -a mnt/share/locale mnt/share/locale2
  cp -r /usr/include mnt/include2
  # Reading the whole list first: a reader that stops early would end the pipe, and with it this script.
  mapfile -t scripts < <(find mnt/lib -name '*.py' -type f | sort)
  for file in "${scripts[@]:0:500}"; do echo '# changed' >>"$file"; done
fi
