#!/usr/bin/env python3
"""How time, memory and the catalog grow with the number of files and versions: real backups of a generated tree.

    scale.py --work DIR [--files 100000] [--versions 10] [--json FILE]

Makes a tree of so many small files, 50 in each directory, backs it up, writes every file anew and backs it up again until
there are so many versions of each, and times what people do every day on what came of it: a run in which nothing
changed, one in which one file did, the restore of one file, list-changes, quick and plain validation, genmeta, and a
rebuild of the catalog from the volume. RAIDTAPE names the binary, by default the one on PATH.

Every version of a file is a chunk of its own, of about 100 bytes: what is measured is the handling of many, not of much.
One million files in ten versions take 12 GB below DIR and about half an hour.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time

BINARY = os.environ.get("RAIDTAPE", "raidtape")


def call(*args):
    """Runs RaidTape: seconds, peak MiB, and what it printed."""
    os.sync()
    began = time.monotonic()
    process = subprocess.Popen([BINARY, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out = process.stdout.read()
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(args)} failed: {said.decode(errors='replace')}")
    return {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "rss": used.ru_maxrss / 1024, "out": out.decode(errors="replace")}


def write_all(top, files, version):
    for number in range(files):
        directory = f"{top}/{number // 50 % 1000:03}/{number // 50}"
        if version == 0 and number % 50 == 0:
            os.makedirs(directory)
        with open(f"{directory}/file-{number}", "w") as file:
            file.write(f"version {version} of file {number}: {number * 2654435761 % 2**32:032x} {version * 40503:032x}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--versions", type=int, default=10)
    parser.add_argument("--json")
    options = parser.parse_args()
    work = options.work
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(f"{work}/cat")
    tree, catalog, volume = f"{work}/tree", f"{work}/cat/backup.cat", f"{work}/disk1"
    on = lambda *args: call("--catalog", catalog, "--no-progress", *args)
    rows = []

    def note(what, used):
        rows.append({"what": what, **{key: used[key] for key in ("wall", "cpu", "rss")}})
        print(f"| {what} | {used['wall']:.2f} | {used['cpu']:.2f} | {used['rss']:.0f} |", flush=True)

    def size():
        return sum(os.path.getsize(f"{work}/cat/{name}") for name in os.listdir(f"{work}/cat"))

    print(f"{options.files:,} files in {options.versions} versions\n\n| | s | cpu s | peak MiB |\n|---|---|---|---|")
    write_all(tree, options.files, 0)
    time.sleep(3)  # Younger files might change again within the same tick of the clock, and would be read again.
    note("first run", on("backup", tree, "--volume", volume))
    after_first = size()
    note("unchanged", on("backup", tree))
    for version in range(1, options.versions):
        write_all(tree, options.files, version)
        time.sleep(3)
        used = on("backup", tree)
        if version in (1, options.versions - 1):
            note(f"every file changed, run {version + 2}", used)
    after_last = size()
    note("unchanged, again", on("backup", tree))
    one = f"{options.files // 2 // 50 % 1000:03}/{options.files // 2 // 50}/file-{options.files // 2}"
    with open(f"{tree}/{one}", "a") as file:
        file.write("one more line\n")
    note("one file changed", on("backup", tree))
    note("restore of that file", on("restore", one, f"{work}/back"))
    note("restore of its first version", on("restore", one, f"{work}/back-1", "--run", "1"))
    note("list-changes of the last run", on("list-changes", "latest"))
    note("validate --quick", on("validate", "--quick"))
    note("validate", on("validate"))
    note("genmeta", on("genmeta"))
    os.rename(f"{work}/cat", f"{work}/cat-before")
    os.makedirs(f"{work}/cat")
    note("rebuild-catalog", on("rebuild-catalog", "--volume", volume))
    versions = (options.files + options.files // 50) * options.versions
    per_first = after_first / options.files
    per_later = (after_last - after_first) / max(1, options.files * (options.versions - 1))
    print(f"\ncatalog: {after_last / 2**20:.0f} MiB for about {versions:,} versions and {options.files * options.versions:,} chunks;")
    print(f"{per_first:.0f} bytes for a file with its chunk in the first run, {per_later:.0f} for each further version with a chunk")
    if options.json:
        with open(options.json, "w") as out:
            json.dump({"files": options.files, "versions": options.versions, "catalog": after_last, "rows": rows}, out, indent=1)


main()
