#!/usr/bin/env python3
"""What three small disks survive under RaidTape, under SnapRAID, and under restic with par2 files beside it.

    survive.py --work DIR --source DIR [--source DIR]... [--raidtape PATH] [--tools parity,copies,snapraid,par2-50,par2-100]

Needs snapraid, par2, rsync and restic (from PATH, or RESTIC). As root each disk is an ext4 of its own on a loop device,
else a directory in the work directory. The sources are copied, 100 to 200 MB are enough, backed up, edited
twice and backed up again after each edit. Every event is tried on a fresh copy of what then lies on the disks.

- RaidTape: a volume on each disk, blocks of 8 MiB so that so little data makes many, the catalog elsewhere.
- SnapRAID: the tree itself on d1 and d2, each source whole on one of them, synced after each edit; parity on d3; content
  files elsewhere, on d1 and on d2. Blocks of 16 KiB instead of 256: each small file takes a whole one of parity.
- restic: the repository on d1, on d2 par2 files over all of it with 50 % or 100 %, made anew after each backup and put in
  place of those before when they are complete. d3 is not used.

A disk that is gone is an empty new one in the same place. Rot is 64 bytes in a row, size and times of the file kept. Cells:
whether every file of all three runs (SnapRAID: of the tree) has its bytes again after the repair; what the check said before
it; and seconds of the repair. A time is one trial's.
"""
import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True

import disks
import tools
from disks import RUNS, edit, mount, must, tree_size, walk


def words(back, told, code=None, what="lost"):
    """Outcome, in words; `told` None where nobody was asked."""
    text = "all back" if not back.lost else f"**{back.lost:,} of {back.total:,} files {what}**"
    if back.lost and back.note:
        text += f" ({back.note})"
    if back.modes:
        text += f", permissions of {back.modes:,} not"
    if told is not None:
        text += f"; told ({told})" if told else "; **not told**"
    return text + (f"; repair ends with {code}" if code else "")


def joined(parts):
    """Trials of one cell: (what, words, seconds); those that ended alike in one."""
    alike = {}
    for what, text, took in parts:
        alike.setdefault(text, []).append((what, took))
    cells = []
    for text, trials in alike.items():
        names = ", ".join(what for what, _ in trials if what)
        times = [f"{took:.1f}" for _, took in sorted(trials, key=lambda trial: trial[1] or 0) if took is not None]
        span = "–".join(dict.fromkeys(times[:1] + times[-1:]))
        cells.append((f"{names}: " if names else "") + text + (f"; {span} s" if span else ""))
    return "<br>".join(cells)


def gone(tool, kind="", prepare=None):
    """Each disk in turn."""
    parts = []
    for number in tool.used:
        tool.reset()
        if prepare:
            prepare()
            tool.before_loss(number, kind == "unsynced")
        mount(number)
        told = tool.check()
        if not prepare:
            tool.early.append((f"d{number}", words(tool.latest(), None, what="not there"), None))
        code, took = tool.mend(number)
        text = words(tool.back(), told, code)
        if not prepare and tool.check():
            text += "; the check still complains"
        if kind == "crash":
            last = tool.next()
            text += f"; the next run ends with {last}" if last else "; the next run is whole"
        parts.append((f"d{number}", text, took))
    return parts


def two_gone(tool):
    parts = []
    for one, other in ((1, 2), (1, 3), (2, 3)):
        if {one, other} <= set(tool.used):
            tool.reset()
            mount(one)
            mount(other)
            told, took = tool.check(), 0.0
            for number in (one, other):
                took += tool.mend(number)[1]
            parts.append((f"d{one} and d{other}", words(tool.back(), told), took))
    return parts


def early(tool):
    return tool.early


def rot(kind):
    def trial(tool):
        tool.reset()
        tool.rot(kind)
        told = tool.check()
        code, took = tool.mend()
        after = tool.check()
        back = tool.back()
        still = "; the check still complains" if after and not back.lost else ""
        return [("", words(back, told, code if back.lost else 0) + still, took)]

    return trial


def rot_read(tool):
    """What a reader gets who does not know."""
    tool.reset()
    tool.rot("one")
    back = tool.latest()
    return [("", words(back, back.told, what="wrong or refused").replace("all back", "all right"), None)]


def forgotten(tool):
    parts = []
    for number in tool.used:
        tool.reset()
        tool.forget()
        mount(number)
        code, took, how = tool.remember(number)
        parts.append((f"d{number}", f"{words(tool.back(), None, code)}, by {how}", took))
    tool.reset()
    mount(1)
    tool.forget()
    what = tool.forget_all()
    if what:
        code, took, _ = tool.remember(1)
        parts.append((f"d1 and {what}", words(tool.back(), None, code), took))
    return parts


def crashed(tool):
    parts = []
    for what in tool.kills:
        tool.killing = what
        found = gone(tool, "crash", tool.crash)
        parts += [(f"{what} killed, {name}" if len(tool.kills) > 1 else name, text, took) for name, text, took in found]
    return parts


def old(tool):
    tool.reset()
    back = tool.old()
    return [("", words(back, None) + ("" if back.lost else f"; {back.note}"), None)]


EVENTS = [
    ("a disk gone", gone),
    ("the same, the newest state read before any repair", early),
    ("two disks gone", two_gone),
    ("rot in one file of the store", rot("one")),
    ("the same, read before any check", rot_read),
    ("rot on two disks, in what has nothing to do with each other", rot("apart")),
    ("rot on two disks, in what protects each other, at different places", rot("shared")),
    ("the same, at the same place", rot("same")),
    ("a disk gone, and the catalog, configuration, content file or cache", forgotten),
    ("source changed since the last run, then a disk gone", lambda tool: gone(tool, "unsynced", tool.unsynced)),
    ("run 1 wanted back", old),
    ("killed amid the fourth run, then a disk gone", crashed),
]


def tried(tool, what, trial):
    began = time.monotonic()
    try:
        cell = joined(trial(tool))
    except disks.Skip as why:
        cell = "not tried"
        print(f"{tool.name}: {what}: not tried: {why}", flush=True)
    except RuntimeError as why:
        cell = "the trial failed"
        print(f"{tool.name}: {what}: the trial failed: {why}", flush=True)
    print(f"{tool.name}: {what}: {cell} [{time.monotonic() - began:.0f} s]", file=sys.stderr, flush=True)
    return cell


def fill(tool, cells):
    """Tries one tool; no cells when it cannot be tried."""
    try:
        for program in tool.programs():
            if not shutil.which(program):
                raise disks.Skip(f"{program} is not here")
        tool.build()
    except disks.Skip as why:
        print(f"{tool.name}: not tried: {why}", flush=True)
        return
    data = tree_size(f"{disks.WORK}/truth{RUNS}")
    cells += [
        f"{tool.size / data:.2f}",
        f"{tool.size / tool.bare:.2f}",
        f"{tool.at_home / 1e6:.1f} MB",
        "yes" if tool.has_versions else "no: the tree",
        f"{tool.seconds:.1f} s",
    ]
    for what, trial in EVENTS:
        cells.append(tried(tool, what, trial))


FIRST = [
    "stored on the disks, by the size of the newest tree",
    "the same, by what the tool takes without redundancy",
    "kept elsewhere",
    "holds three runs",
    "seconds for three runs, redundancy with them",
]


def versions(options):
    restic = os.environ.get("RESTIC", "restic")
    for ask in ([options.raidtape, "--version"], ["snapraid", "--version"], ["par2", "-V"], [restic, "version"]):
        if not shutil.which(ask[0]):
            print(f"- {ask[0]} is not here")
            continue
        told = subprocess.run(ask, capture_output=True, timeout=60).stdout.decode().strip().splitlines()
        print(f"- {told[0] if told else ask[0]}")


def prepare(options):
    """The source at each run, one tree each."""
    os.makedirs(disks.WORK)
    os.makedirs(f"{disks.WORK}/truth1")
    for source in options.source:
        must("cp", "-a", source, f"{disks.WORK}/truth1/")
    for number in range(1, RUNS + 2):
        tree = f"{disks.WORK}/truth{number}"
        if number > 1:
            must("cp", "-a", f"{disks.WORK}/truth{number - 1}", tree)
            edit(tree, random.Random(number), added=0.01 if number <= RUNS else 0.04)
        disks.TRUTH[number] = walk(tree)
        print(f"- run {number}: {len(disks.TRUTH[number]):,} files, {tree_size(tree) / 1e6:.1f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, help="a directory that is not there yet; about 3 GB")
    parser.add_argument("--source", required=True, action="append")
    parser.add_argument("--raidtape", default="raidtape")
    parser.add_argument("--tools", default="parity,copies,snapraid,par2-50,par2-100")
    options = parser.parse_args()
    disks.WORK = os.path.abspath(options.work)
    if os.path.exists(disks.WORK):
        parser.error(f"{disks.WORK} is there already")
    made = {
        "parity": lambda: tools.RaidTape(options.raidtape, "parity=2+1"),
        "copies": lambda: tools.RaidTape(options.raidtape, "copies=2"),
        "snapraid": tools.SnapRaid,
        "par2-50": lambda: tools.Par2(50),
        "par2-100": lambda: tools.Par2(100),
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    columns = []
    try:
        versions(options)
        prepare(options)
        columns = [(made[name](), []) for name in options.tools.split(",")]
        for tool, cells in columns:
            fill(tool, cells)
    except (KeyboardInterrupt, SystemExit):
        print("interrupted: what was not reached was not tried")
    finally:
        clean_up()
    show(columns)


def show(columns):
    rows = FIRST + [what for what, _ in EVENTS]
    print("\n| | " + " | ".join(tool.name for tool, _ in columns) + " |\n|---" + "|---" * len(columns) + "|")
    for at, what in enumerate(rows):
        tried_so_far = (cells[at] if at < len(cells) else "not tried" for _, cells in columns)
        print(f"| {what} | " + " | ".join(tried_so_far) + " |")


def clean_up():
    for number in (1, 2, 3):
        disks.unmount(number)
    if sys.exc_info()[0]:
        print(f"what the programs said is in {disks.WORK}/log", file=sys.stderr)
        return
    shutil.copy(f"{disks.WORK}/log", f"{disks.WORK}.log")
    shutil.rmtree(disks.WORK)


if __name__ == "__main__":
    main()
