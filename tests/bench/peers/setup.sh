#!/usr/bin/env bash
# Installs what compare.py measures beside RaidTape, under DIR (default: $HOME/.cache/raidtape-peers), and prints the
# variables to export. restic: Debian's newest package, unpacked beside the system's; borg: pip; the others: cargo.
# Debian or a relative of it, root for the libraries' headers; half an hour the first time.
set -euo pipefail

dir=${1:-$HOME/.cache/raidtape-peers}
mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial"
cd "$dir"

if [ ! -x restic/usr/bin/restic ]; then
  mirror=$(grep -hm1 '^URIs' /etc/apt/sources.list.d/*.sources | awk '{print $2}')
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >apt/sources.list
  options=(-o "Dir::Etc::sourcelist=$dir/apt/sources.list" -o Dir::Etc::sourceparts=-
    -o "Dir::State::Lists=$dir/apt/lists" -o "Dir::Cache=$dir/apt/cache")
  apt-get "${options[@]}" update -qq
  (cd apt && apt-get "${options[@]}" download -qq restic && dpkg -x restic_*.deb ../restic)
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libacl1-dev libssl-dev liblz4-dev libzstd-dev libxxhash-dev \
  libsodium-dev pkg-config >/dev/null

[ -x venv/bin/borg ] || { python3 -m venv venv && venv/bin/pip install -q borgbackup==1.4.5; }
installed() { [ -x "cargo/bin/$1" ]; }
installed rustic || cargo install -q rustic-rs --version 0.11.4 --no-default-features --root cargo
installed bupstash || cargo install -q bupstash --version 0.12.0 --locked --root cargo
installed conserve || cargo install -q conserve --version 24.8.0 --root cargo

echo "export RESTIC=$dir/restic/usr/bin/restic BORG=$dir/venv/bin/borg RUSTIC=$dir/cargo/bin/rustic" \
  "BUPSTASH=$dir/cargo/bin/bupstash CONSERVE=$dir/cargo/bin/conserve"
