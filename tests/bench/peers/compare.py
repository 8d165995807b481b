#!/usr/bin/env python3
"""Runs RaidTape and its peers over the same corpus, one after the other, and prints one table.

    compare.py --work DIR --v1 DIR --v2 DIR [--tools raidtape,restic,...] [--rounds 3] [--cold] [--json FILE]

Binaries come from PATH, or from RAIDTAPE, RESTIC, RUSTIC, BORG, BUPSTASH and CONSERVE; setup.sh prints those. DIR of --work
must lie on the file system of v1 and v2, which are renamed to one path in turn. Each tool does: backup of v1, the same
again, backup of v2 in its place, full check, restore of v2; the restored tree is compared with the source.

As root every tool gets a fresh ext4 on a loop device for its repository and its restored tree: ext4 without a journal
looks through recently deleted inodes when it creates files, so that one tool would pay for what another deleted.
The source is read as a whole before each tool's backup; --cold drops the page cache before each step, so that what it measures
is this machine's cache alone: whatever lies below it (a host's cache, a controller's) has seen the source.

A machine that others share is fast one minute and slow the next. With --rounds all tools take turns, and of each step the
fastest time counts.

RaidTape's restore ends when the tree is on the disk, its peers' when it is in the page cache: beside the time of the
restore stands the time until a `sync` of the file system after it is through as well.

Per step: seconds on the clock, CPU seconds (all children), peak MiB of memory of the largest process. Stored: MiB that
`du` counts; for RaidTape blocks, records and labels, its volume's index and its catalog by themselves, as the peers'
caches are not counted either. RaidTape's check is `validate --deep`, its quick one `validate`.
"""
import argparse
import glob
import json
import os
import shutil
import subprocess
import sys
import time


class Tool:
    """One program and its repository in `work`."""

    def __init__(self, name, work):
        self.name, self.work, self.repo, self.env, self.runs = name, work, f"{work}/repo", {}, 0
        self.binary = os.environ.get(name.upper(), name)

    def call(self, *args, cwd=None):
        """Runs the program; what it used, or the end of this comparison when it failed."""
        os.sync()
        log_path = f"{self.work}.log"
        with open(log_path, "ab") as log:
            began = time.monotonic()
            process = subprocess.Popen([self.binary, *args], env={**os.environ, **self.env}, cwd=cwd, stdout=log, stderr=log)
            _, status, used = os.wait4(process.pid, 0)
            wall = time.monotonic() - began
        if os.waitstatus_to_exitcode(status) != 0:
            tail = open(log_path, "rb").read()[-2000:].decode(errors="replace")
            sys.exit(f"{self.name} {' '.join(args)} failed:\n{tail}")
        return {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "rss": used.ru_maxrss / 1024}

    def stored(self):
        return disk_usage(self.repo)

    def extra(self):
        return {}

    def verify(self):
        return None

    def quick(self):
        return None


class Restic(Tool):
    def init(self):
        self.env = {"RESTIC_PASSWORD": "x", "RESTIC_REPOSITORY": self.repo, "RESTIC_CACHE_DIR": f"{self.work}/cache"}
        self.call("init")

    def backup(self, source):
        return self.call("-q", "backup", source)

    def verify(self):
        return self.call("-q", "check", "--read-data")

    def restore(self, to):
        return self.call("-q", "restore", "latest", "--target", to)


class Rustic(Tool):
    def init(self):
        self.env = {
            "RUSTIC_PASSWORD": "x",
            "RUSTIC_REPOSITORY": self.repo,
            "RUSTIC_CACHE_DIR": f"{self.work}/cache",
            "RUSTIC_NO_PROGRESS": "true",
        }
        self.call("init")

    def backup(self, source):
        return self.call("backup", source)

    def verify(self):
        return self.call("check", "--read-data")

    def restore(self, to):
        return self.call("restore", "latest", to)


class Borg(Tool):
    def init(self):
        self.env = {
            "BORG_REPO": self.repo,
            "BORG_BASE_DIR": f"{self.work}/borgbase",
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }
        self.call("init", "-e", "none")

    def backup(self, source):
        self.runs += 1
        return self.call("create", "-C", "zstd,3", f"::a{self.runs}", source)

    def verify(self):
        return self.call("check", "--verify-data")

    def restore(self, to):
        os.makedirs(to)
        return self.call("extract", f"::a{self.runs}", cwd=to)


class Bupstash(Tool):
    def init(self):
        self.env = {
            "BUPSTASH_REPOSITORY": self.repo,
            "BUPSTASH_KEY": f"{self.work}/key",
            "XDG_CACHE_HOME": f"{self.work}/cache",
            "BUPSTASH_QUERY_CACHE": f"{self.work}/query-cache",
        }
        self.call("new-key", "-o", f"{self.work}/key")
        self.call("init")

    def backup(self, source):
        self.runs += 1
        return self.call("put", "-q", "--send-log", f"{self.work}/send.log", f"n={self.runs}", source)

    def restore(self, to):
        os.makedirs(to)
        return self.call("restore", "-q", "--into", to, f"n={self.runs}")


class Conserve(Tool):
    def init(self):
        self.call("init", self.repo)

    def backup(self, source):
        return self.call("backup", "--no-progress", self.repo, source)

    def verify(self):
        return self.call("validate", "--no-progress", self.repo)

    def restore(self, to):
        return self.call("restore", "--no-progress", self.repo, to)


class Cp(Tool):
    """The floor: a plain copy there and back."""

    def init(self):
        os.makedirs(self.repo)

    def backup(self, source):
        self.runs += 1
        used = self.call("-a", source, f"{self.repo}/{self.runs}")
        if self.runs == 2:  # The same once more: not one of the versions that are kept.
            shutil.rmtree(f"{self.repo}/2")
        return used

    def restore(self, to):
        return self.call("-a", f"{self.repo}/{self.runs}", to)


class Raidtape(Tool):
    def init(self):
        os.makedirs(f"{self.work}/cat")
        os.makedirs(self.repo)
        self.catalog = f"{self.work}/cat/backup.cat"
        self.on_catalog("init", "--reserve", "1", "--hash-algo", "blake3")
        self.on_catalog("add-volume", f"{self.repo}/v1", "--reserve", "1")

    def on_catalog(self, *args):
        return self.call("--catalog", self.catalog, *args)

    def backup(self, source):
        self.runs += 1
        return self.on_catalog("backup", source)

    def verify(self):
        return self.on_catalog("validate", "--deep")

    def quick(self):
        return self.on_catalog("validate")

    def restore(self, to):
        return self.on_catalog("revert-to-run", str(self.runs), to)

    def index(self):
        return sum(disk_usage(path) for path in glob.glob(f"{self.repo}/v1/index.db*"))

    def stored(self):
        return disk_usage(self.repo) - self.index()

    def extra(self):
        return {"catalog": disk_usage(f"{self.work}/cat"), "index": self.index()}


TOOLS = {tool.__name__.lower(): tool for tool in (Raidtape, Restic, Rustic, Borg, Bupstash, Conserve, Cp)}
STEPS = ("first", "again", "v2", "verify", "quick", "restore", "synced")


def disk_usage(path):
    return int(subprocess.check_output(["du", "-s", "--block-size=1K", path]).split()[0]) / 1024


def fresh(work):
    drop(work)
    os.makedirs(work)
    if os.geteuid() == 0:
        image = f"{work}.img"
        subprocess.check_call(["truncate", "-s", "40G", image])
        lazy = "lazy_itable_init=0,lazy_journal_init=0"
        subprocess.check_call(["mkfs.ext4", "-q", "-E", lazy, "-i", "8192", image])
        subprocess.check_call(["mount", "-o", "loop,noatime", image, work])


def drop(work):
    if os.path.ismount(work):
        subprocess.check_call(["umount", work])
    shutil.rmtree(work, ignore_errors=True)
    if os.path.exists(f"{work}.img"):
        os.remove(f"{work}.img")


def empty_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as caches:
        caches.write("3\n")


def warm(source):
    # Through a pipe: tar reads nothing when it sees that its output is /dev/null.
    subprocess.run(f"tar cf - -C {source} . | cat >/dev/null", shell=True, check=True)


def restored_root(out, source):
    """The directory below `out` that holds what `source` holds."""
    names = sorted(os.listdir(source))
    for top, dirs, files in os.walk(out):
        if sorted(dirs + files) == names:
            return top
    return None


def measure(name, options):
    work = f"{options.work}/{name}"
    current = f"{options.work}/cur"
    fresh(work)
    tool = TOOLS[name](name, work)
    tool.init()
    row = {"tool": name}

    def step(key, action):
        if options.cold:
            empty_caches()
        row[key] = action()

    for version, steps in ((options.v1, ("first", "again")), (options.v2, ("v2", "verify", "quick", "restore"))):
        os.rename(version, current)
        try:
            # Cold too, and past this machine's cache: what lies below that is then as warm for the first tool as for the last.
            if options.cold:
                empty_caches()
            warm(current)
            for key in steps:
                if key in ("first", "again", "v2"):
                    step(key, lambda: tool.backup(current))
                elif key == "restore":
                    step(key, lambda: tool.restore(f"{work}/out"))
                    began = time.monotonic()
                    subprocess.check_call(["sync", "-f", f"{work}/out"])
                    row["synced"] = row[key] | {"wall": row[key]["wall"] + time.monotonic() - began}
                else:
                    step(key, getattr(tool, key))
            row["size1" if version == options.v1 else "size2"] = tool.stored()
            if version == options.v2:
                row |= tool.extra()
                found = restored_root(f"{work}/out", current)
                differs = found is None or subprocess.run(
                    ["diff", "-rq", "--no-dereference", current, found], stdout=subprocess.DEVNULL
                ).returncode
                row["same"] = not differs
        finally:
            os.rename(current, version)
    drop(work)
    return row


def fastest(one, other):
    """The faster of each step, the larger of each size, and whether both came back right."""
    row = dict(other)
    for key in STEPS:
        if one.get(key):
            row[key] = min(one[key], other[key], key=lambda used: used["wall"])
            row[key]["rss"] = max(one[key]["rss"], other[key]["rss"])
    row |= {key: max(one[key], other[key]) for key in ("size1", "size2", "catalog", "index") if key in one}
    row["same"] = one["same"] and other["same"]
    return row


def cell(used, with_cpu=False):
    if not used:
        return "–"
    digits = 2 if used["wall"] < 1 else 1
    return f"{used['wall']:.{digits}f}" + (f" / {used['cpu']:.1f}" if with_cpu else "")


def show(row):
    memory = [max(row[key]["rss"] for key in keys if row.get(key)) for keys in (("first", "again", "v2"), ("restore",))]
    cells = [row["tool"], cell(row["first"], with_cpu=True)]
    cells += [cell(row[key]) for key in STEPS[1:]]
    cells += [f"{row['size1']:.0f} / {row['size2']:.0f}", f"{memory[0]:.0f} / {memory[1]:.0f}"]
    note = "" if row["same"] else "  the restored tree differs!"
    print("| " + " | ".join(cells) + " |" + note)
    if "catalog" in row:
        print(f"  ({row['tool']}: catalog {row['catalog']:.0f} MiB, the volume's index {row['index']:.1f} MiB)", file=sys.stderr)
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True)
    parser.add_argument("--v1", required=True)
    parser.add_argument("--v2", required=True)
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    os.makedirs(options.work, exist_ok=True)
    best = {}
    for _ in range(options.rounds):
        for name in options.tools.split(","):
            row = measure(name, options)
            best[name] = fastest(best[name], row) if name in best else row
            print(f"{name}: " + ", ".join(f"{key} {row[key]['wall']:.2f}" for key in STEPS if row.get(key)), file=sys.stderr)
    print(
        "| | first s / cpu | unchanged s | v2 s | full check s | quick check s | restore s | restore and sync s "
        "| stored MiB v1 / v1+v2 | peak MiB backup / restore |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in best.values():
        show(row)
    if options.json:
        with open(options.json, "w") as out:
            json.dump(list(best.values()), out, indent=1)


main()
