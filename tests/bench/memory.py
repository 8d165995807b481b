#!/usr/bin/env python3
"""Whether memory stays flat while the data grows: one file of generated data after the other, larger each time.

    memory.py --work DIR [--sizes 1,10,50] [--json FILE]

For each size in GB: a source of four files that no two chunks of are equal, backup, an unchanged run, validate, validate
--deep, genmeta, rebuild-catalog and revert-to-run; peak MiB of memory and seconds of each. RAIDTAPE names the binary, by
default the one on PATH.

As root source and restored tree lie on a btrfs that compresses, on a loop device below DIR, so that 50 GB need about 8;
the data is made so that one part in 32 is noise. Otherwise DIR must have room for three times the size.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time

BINARY = os.environ.get("RAIDTAPE", "raidtape")
UNIT = 256 << 10
NOISE = UNIT // 32


def write_data(path, length):
    with open(path, "wb") as file:
        for _ in range(length // UNIT):
            file.write(os.urandom(NOISE) * 32)


def call(*args):
    """Runs RaidTape: seconds and peak MiB."""
    os.sync()
    began = time.monotonic()
    process = subprocess.Popen([BINARY, *args], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(args)} failed: {said.decode(errors='replace')}")
    return {"wall": time.monotonic() - began, "rss": used.ru_maxrss / 1024}


def fresh(work):
    drop(work)
    os.makedirs(f"{work}/data")
    if os.geteuid() == 0 and shutil.which("mkfs.btrfs"):
        subprocess.check_call(["truncate", "-s", "200G", f"{work}/data.img"])
        subprocess.check_call(["mkfs.btrfs", "-q", f"{work}/data.img"])
        subprocess.check_call(["mount", "-o", "loop,compress-force=zstd:1", f"{work}/data.img", f"{work}/data"])


def drop(work):
    if os.path.ismount(f"{work}/data"):
        subprocess.check_call(["umount", f"{work}/data"])
    shutil.rmtree(work, ignore_errors=True)


def measure(work, size):
    fresh(work)
    source, catalog, volume = f"{work}/data/source", f"{work}/cat/backup.cat", f"{work}/disk1"
    os.makedirs(source)
    os.makedirs(f"{work}/cat")
    for number in range(4):
        write_data(f"{source}/{number}", size * 10**9 // 4)
    time.sleep(3)  # Younger files might change again within the same tick of the clock, and would be read again.
    on = lambda *args: call("--catalog", catalog, "--no-progress", *args)
    row = {"backup": on("backup", source, "--volume", volume)}
    row["unchanged"] = on("backup", source)
    row["validate"] = on("validate")
    row["validate --deep"] = on("validate", "--deep")
    row["genmeta"] = on("genmeta")
    os.rename(f"{work}/cat", f"{work}/cat-before")
    os.makedirs(f"{work}/cat")
    row["rebuild-catalog"] = on("rebuild-catalog", "--volume", volume)
    row["revert-to-run"] = on("revert-to-run", "2", f"{work}/data/back")
    if subprocess.run(["diff", "-rq", source, f"{work}/data/back"], stdout=subprocess.DEVNULL).returncode:
        sys.exit("the restored tree differs")
    drop(work)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True)
    parser.add_argument("--sizes", default="1,10,50")
    parser.add_argument("--json")
    options = parser.parse_args()
    rows = {}
    for size in map(int, options.sizes.split(",")):
        rows[size] = measure(options.work, size)
        print(f"{size} GB: " + ", ".join(f"{what} {used['rss']:.0f} MiB" for what, used in rows[size].items()), file=sys.stderr)
    print("| peak MiB (s) | " + " | ".join(f"{size} GB" for size in rows) + " |\n|---|" + "---|" * len(rows))
    for what in next(iter(rows.values())):
        cells = [f"{row[what]['rss']:.0f} ({row[what]['wall']:.1f})" for row in rows.values()]
        print(f"| {what} | " + " | ".join(cells) + " |")
    if options.json:
        with open(options.json, "w") as out:
            json.dump(rows, out, indent=1)


main()
