"""What survive.py does with disks, trees and programs, whatever tool is tried."""
import collections
import hashlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import time

RUNS, DISK_BYTES, ROT = 3, 600 << 20, 64
# The work directory, and for each run what `walk` found in the source: set by survive.py.
WORK, TRUTH = "", {}
# Where in the log the output of the last command begins.
BEGINS = [0]
Back = collections.namedtuple("Back", "lost total modes told note", defaults=("", ""))


class Skip(Exception):
    """Why something cannot be tried."""


def run(*args, limit=600, env=None):
    """Exit code and seconds; what it says goes into the log."""
    with open(f"{WORK}/log", "ab") as out:
        out.write(f"\n$ {' '.join(map(str, args))}\n".encode())
        out.flush()
        BEGINS[0] = out.tell()
        began = time.monotonic()
        try:
            words, none = list(map(str, args)), subprocess.DEVNULL
            code = subprocess.run(words, stdin=none, stdout=out, stderr=out, timeout=limit, env=env).returncode
        except subprocess.TimeoutExpired:
            code = 124
        took = time.monotonic() - began
        out.write(f"exit {code}, {took:.2f} s\n".encode())
    return code, took


def said():
    """What the last command said."""
    with open(f"{WORK}/log", "rb") as log:
        log.seek(BEGINS[0])
        return log.read().decode(errors="replace")


def told(code, warning):
    """How a command told of damage."""
    return f"exit {code}" if code else "in words, exit 0" if re.search(warning, said()) else ""


def must(*args, **more):
    code, took = run(*args, **more)
    if code:
        raise RuntimeError(f"{' '.join(map(str, args))}: exit {code}; see {WORK}/log")
    return took


def killed(*args, after, env=None):
    """Starts a command and kills it; whether it was still at work."""
    with open(f"{WORK}/log", "ab") as out:
        process = subprocess.Popen(list(map(str, args)), stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env)
        time.sleep(after)
        process.kill()
        code = process.wait()
        out.write(f"\n$ {' '.join(map(str, args))}\nkilled after {after:.2f} s: exit {code}\n".encode())
        return code == -signal.SIGKILL


def disk(number):
    return pathlib.Path(f"{WORK}/d{number}")


def unmount(number):
    if os.path.ismount(disk(number)):
        subprocess.run(["umount", disk(number)], check=True, timeout=60)


def mount(number, image=None):
    """An empty disk, or one with what the image (or the directory) holds."""
    here, own = disk(number), f"{WORK}/d{number}.img"
    unmount(number)
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir()
    if os.geteuid():
        must("cp", "-a", f"{image}/.", here) if image else None
        return
    if image:
        must("cp", "--sparse=always", f"{image}.img", own)
    else:
        pathlib.Path(own).unlink(missing_ok=True)
        must("truncate", "-s", DISK_BYTES, own)
        must("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", own)
    must("mount", "-o", "loop,noatime", own, here)


def walk(top):
    """Path below `top`: kind and bytes, and the mode, of all that is no directory."""
    found = {}
    for folder, _, files in os.walk(top):
        for name in files:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            is_link = os.path.islink(path)
            what = os.readlink(path) if is_link else hashlib.blake2b(pathlib.Path(path).read_bytes()).digest()
            found[os.path.relpath(path, top)] = (is_link, what, 0 if is_link else info.st_mode & 0o7777)
    return found


def compared(expected, found, how="", note=""):
    lost = [path for path, value in expected.items() if found.get(path, (None,))[:2] != value[:2]]
    modes = sum(found[path][2] != value[2] for path, value in expected.items() if path in found)
    return Back(len(lost), len(expected), modes, how, note)


def sum_of(backs):
    return Back(*(sum(back[at] for back in backs) for at in range(3)), max(back.told for back in backs))


def edit(top, rng, added=0.01):
    """Changes 3 of 100 files, deletes 2, and adds some: never in place, so that copies by hard links stay what they were."""
    files = sorted(path for path in pathlib.Path(top).rglob("*") if path.is_file() and not path.is_symlink())
    chosen = rng.sample(files, int(len(files) * 0.05))
    for at, path in enumerate(chosen):
        if at % 5 < 3:
            old = path.read_bytes()
            middle, mode = len(old) // 2, path.stat().st_mode
            path.unlink()
            path.write_bytes(old[:middle] + rng.randbytes(rng.randint(10, 3000)) + old[middle:])
            path.chmod(mode & 0o7777)
        else:
            path.unlink()
    for number in range(int(len(files) * added)):
        path = rng.choice(files).parent / f"added-{number}-{rng.getrandbits(32):x}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.randint(1000, 200_000)))


def flip(path, offset):
    info = os.stat(path)
    os.chmod(path, 0o600 | info.st_mode & 0o7777)
    with open(path, "r+b") as file:
        file.seek(offset)
        old = file.read(ROT)
        file.seek(offset)
        file.write(bytes(byte ^ 0xFF for byte in old))
    os.chmod(path, info.st_mode & 0o7777)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def tree_size(top):
    files = (os.lstat(os.path.join(folder, name)) for folder, _, names in os.walk(top) for name in names)
    return sum(info.st_size for info in files)


class Tool:
    """What all have in common; `used`: disks that hold something."""

    used, kills, has_versions = (1, 2, 3), ("run",), True
    warning = "could not be read|came from another copy|No accessible|Error |Fatal"

    def __init__(self):
        self.home, self.state, self.seconds, self.early = f"{WORK}/home", f"{WORK}/state", 0.0, []
        self.killing, self.whole = "", {}

    def fresh(self):
        shutil.rmtree(self.home, ignore_errors=True)
        os.makedirs(self.home)
        for number in (1, 2, 3):
            mount(number)

    def keep(self):
        shutil.rmtree(self.state, ignore_errors=True)
        os.makedirs(self.state)
        must("cp", "-a", self.home, f"{self.state}/home")
        for number in (1, 2, 3):
            if os.geteuid() == 0:
                unmount(number)
                must("cp", "--sparse=always", f"{WORK}/d{number}.img", f"{self.state}/d{number}.img")
            else:
                must("cp", "-a", disk(number), f"{self.state}/d{number}")

    def reset(self):
        shutil.rmtree(self.home, ignore_errors=True)
        must("cp", "-a", f"{self.state}/home", self.home)
        for number in (1, 2, 3):
            mount(number, f"{self.state}/d{number}")

    def build(self):
        """All runs, each with what protects it."""
        self.fresh()
        self.init()
        for number in range(1, RUNS + 1):
            shutil.rmtree(f"{WORK}/src", ignore_errors=True)
            must("cp", "-a", f"{WORK}/truth{number}", f"{WORK}/src")
            self.seconds += self.save()
        self.size = sum(tree_size(disk(number)) for number in (1, 2, 3))
        self.at_home = tree_size(self.home)
        self.keep()

    def before_loss(self, number, is_unsynced):
        """What must come back, where that is not what the runs say."""

    def unsynced(self):
        """The source goes on without a run: nothing on the disks changes."""
        edit(f"{WORK}/src", random.Random(6))

    def crash(self):
        """A run with much that is new, killed at two fifths of the time that it takes."""
        if self.killing not in self.whole:
            self.source(RUNS + 1)
            self.whole[self.killing] = self.fourth(None)
            self.reset()
        after = 0.4
        while after > 0.02:
            self.source(RUNS + 1)
            if self.fourth(self.whole[self.killing] * after):
                return
            self.reset()
            after /= 2
        raise Skip("it was always through before it was killed")

    def source(self, number):
        shutil.rmtree(f"{WORK}/src", ignore_errors=True)
        must("cp", "-a", f"{WORK}/truth{number}", f"{WORK}/src")

    def back(self):
        return sum_of([self.back_of(number) for number in range(1, RUNS + 1)])

    def latest(self):
        return self.back_of(RUNS)

    def back_of(self, number):
        out = f"{WORK}/out"
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        code, self.took = self.restore(number, out)
        return compared(TRUTH[number], walk(self.root_of(out)), told(code, self.warning))

    def root_of(self, out):
        return out

    def old(self):
        return self.back_of(1)._replace(note=f"{self.took:.1f} s")
