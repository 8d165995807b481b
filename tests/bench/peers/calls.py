#!/usr/bin/env python3
"""System calls and syncs of a backup and of a restore, RaidTape's beside restic's, counted by strace.

    calls.py --work DIR --source DIR

Binaries come from PATH, or from RAIDTAPE and RESTIC. Counted are all calls but those by which threads wait for each other
(futex, sleeps, polls, signals, yields) and those for memory; syncs are fsync, fdatasync and syncfs. Per file: divided by the
files, directories and links of the source; per GiB: by the bytes of its files.
"""
import argparse
import os
import shutil
import subprocess
import sys

AMONG_THREADS = {
    "futex", "nanosleep", "clock_nanosleep", "sched_yield", "epoll_pwait", "epoll_wait", "poll", "ppoll", "tgkill", "getpid",
    "rt_sigprocmask", "rt_sigreturn", "rt_sigaction", "sigaltstack", "restart_syscall", "clone", "clone3", "gettid",
    "mmap", "munmap", "madvise", "brk", "mprotect", "mremap", "sched_getaffinity", "prctl", "rseq", "set_robust_list",
}
SYNCS = {"fsync", "fdatasync", "syncfs", "sync"}


def counted(work, env, *args):
    log = f"{work}/strace"
    done = subprocess.run(["strace", "-f", "-c", "-o", log, *args], env={**os.environ, **env}, capture_output=True)
    if done.returncode:
        sys.exit(f"{' '.join(args)} failed: {done.stderr.decode(errors='replace')[-1000:]}")
    calls = {}
    for line in open(log):
        parts = line.split()
        if len(parts) >= 5 and parts[3].isdigit() and parts[-1] != "total":
            calls[parts[-1]] = int(parts[3])
    return calls


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True)
    parser.add_argument("--source", required=True)
    options = parser.parse_args()
    work, source = options.work, options.source
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(f"{work}/cat")
    entries, size = 0, 0
    for top, dirs, files in os.walk(source):
        entries += len(dirs) + len(files)
        size += sum(os.lstat(f"{top}/{name}").st_size for name in files)
    raidtape = [os.environ.get("RAIDTAPE", "raidtape"), "--catalog", f"{work}/cat/backup.cat", "--no-progress"]
    restic = [os.environ.get("RESTIC", "restic"), "-q"]
    env = {"RESTIC_PASSWORD": "x", "RESTIC_REPOSITORY": f"{work}/restic", "RESTIC_CACHE_DIR": f"{work}/cache"}
    subprocess.check_call([*restic, "init"], env={**os.environ, **env})
    subprocess.check_call([*raidtape, "init"], stdout=subprocess.DEVNULL)
    subprocess.check_call([*raidtape, "add-volume", f"{work}/disk1"], stdout=subprocess.DEVNULL)
    steps = {
        "first backup": ([*raidtape, "backup", source], [*restic, "backup", source]),
        "unchanged": ([*raidtape, "backup", source], [*restic, "backup", source]),
        "restore": ([*raidtape, "revert-to-run", "1", f"{work}/back"], [*restic, "restore", "latest", "--target", f"{work}/back2"]),
    }
    print(f"{entries:,} entries, {size / 2**30:.2f} GiB\n\n| | calls per entry | most of them | syncs | syncs per GiB |\n|---|---|---|---|---|")
    for what, programs in steps.items():
        for name, args in zip(("RaidTape", "restic"), programs):
            calls = counted(work, env, *args)
            rest = {call: count for call, count in calls.items() if call not in AMONG_THREADS}
            most = sorted(rest, key=rest.get, reverse=True)[:6]
            most = ", ".join(f"{call} {rest[call] / entries:.2f}" for call in most)
            syncs = sum(count for call, count in calls.items() if call in SYNCS)
            print(f"| {what}, {name} | {sum(rest.values()) / entries:.2f} | {most} | {syncs} | {syncs / (size / 2**30):.0f} |", flush=True)
    shutil.rmtree(work)


main()
