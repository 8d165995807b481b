#!/usr/bin/env python3
"""What RaidTape, restic and borg bring back of what a file system can hold: one table, every cell tried.

    compare.py [--fs ext4,xfs,btrfs] [--tools raidtape,restic,borg] [--size MIB]

As root. Makes each file system on a loop device of its own, grows one small tree per feature on it, backs all of it up and
restores it there with each tool as its manual says (borg with --numeric-ids off and --sparse where that brings holes back),
and asks the system, not the tool, whether the feature is there again. Binaries come from PATH, or from RAIDTAPE, RESTIC
and BORG.
"""
import argparse
import fcntl
import os
import socket
import stat
import struct
import subprocess
import sys
import tempfile

BLOCK = 4096


def run(*words, cwd=None, env=None, may_fail=False):
    done = subprocess.run(words, cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        said = f"{' '.join(map(str, words))} ({done.returncode}): {done.stderr.decode(errors='replace')[-800:]}"
        if not may_fail:
            raise RuntimeError(said)
        print(said, file=sys.stderr)
    return done.stdout.decode(errors="surrogateescape")


def write(path, data=b"content"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def of(path, *fields):
    found = os.lstat(path)
    return tuple(getattr(found, "st_" + field) for field in fields)


def data_of(path):
    fd, ranges, at = os.open(path, os.O_RDONLY), [], 0
    size = os.fstat(fd).st_size
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        ranges.append((start, at))
    os.close(fd)
    return ranges


def flags_of(path, which):
    fd = os.open(path, os.O_RDONLY)
    answer = fcntl.ioctl(fd, 0x80086601, bytes(8))
    os.close(fd)
    return struct.unpack("I", answer[:4])[0] & which


def project_of(path):
    fd = os.open(path, os.O_RDONLY)
    answer = fcntl.ioctl(fd, 0x801C581F, bytes(28))
    os.close(fd)
    return struct.unpack_from("I", answer, 12)[0]


def sparse(path, written, size):
    write(path, b"")
    with open(path, "r+b") as file:
        file.truncate(size)
        for at, data in written:
            file.seek(at)
            file.write(data)


def mknod(path, kind, device=0):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.mknod(path, 0o640 | kind, device)


def symlink(target, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(target, path)


def linked(make):
    def grow(dir):
        make(f"{dir}/one")
        os.makedirs(f"{dir}/below")
        os.link(f"{dir}/one", f"{dir}/below/two", follow_symlinks=False)
    return grow


def xattr(key, value=b"\x00value", name="f"):
    def grow(dir):
        write(f"{dir}/{name}")
        os.setxattr(f"{dir}/{name}", key, value)
    return grow, lambda dir: os.getxattr(f"{dir}/{name}", key)


def flag(letter, bit):
    def grow(dir):
        write(f"{dir}/f", b"")
        run("chattr", "+" + letter, f"{dir}/f")
    return grow, lambda dir: flags_of(f"{dir}/f", bit)


def far(dir):
    here = os.open(dir, os.O_DIRECTORY)
    for _ in range(20):
        os.mkdir("f" * 250, dir_fd=here)
        here = os.open("f" * 250, os.O_DIRECTORY, dir_fd=here)
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=here))


def far_of(dir):
    here = os.open(dir, os.O_DIRECTORY)
    for _ in range(20):
        here = os.open("f" * 250, os.O_DIRECTORY, dir_fd=here)
    return os.listdir(here)


def grow_modes(dir):
    for mode in (0o4755, 0o2755, 0o1777, 0o7777, 0, 0o6000):
        write(f"{dir}/{mode}")
        os.chmod(f"{dir}/{mode}", mode)


def grow_owner(dir):
    write(f"{dir}/f")
    os.chown(f"{dir}/f", 1234, 70000)


def grow_link(dir):
    symlink("nowhere", f"{dir}/l")
    os.lchown(f"{dir}/l", 1234, 70000)
    os.utime(f"{dir}/l", ns=(1, 1_000_000_000_123_456_789), follow_symlinks=False)


def grow_dir_time(dir):
    write(f"{dir}/d/f")
    os.utime(f"{dir}/d", ns=(1, 1_000_000_000_123_456_789))


def time_of(when):
    def grow(dir):
        write(f"{dir}/f")
        os.utime(f"{dir}/f", ns=(1, when))
    return grow, lambda dir: of(f"{dir}/f", "mtime_ns")


def grow_acl(dir):
    write(f"{dir}/f")
    run("setfacl", "-m", "u:12345:rw,g:54321:r", f"{dir}/f")


def grow_default_acl(dir):
    os.mkdir(f"{dir}/d")
    run("setfacl", "-d", "-m", "u:12345:rwx", f"{dir}/d")


def grow_names(dir):
    for name in (b"\xff\xfe \x80", b"new\nline", b"n" * 255):
        write(os.fsencode(dir) + b"/" + name)


def grow_project(dir):
    write(f"{dir}/f")
    run("chattr", "-p", "77", f"{dir}/f")


NOISE = os.urandom(BLOCK)
HOLEY = [(10 * BLOCK, NOISE), (12 * BLOCK, NOISE * 3), (400 * BLOCK, NOISE)]
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
FAR = "paths beyond 4,096 bytes"
FEATURES = {
    "mode with suid, sgid, sticky": (grow_modes, lambda d: [of(f"{d}/{n}", "mode") for n in sorted(os.listdir(d))]),
    "owner and group": (grow_owner, lambda d: of(f"{d}/f", "uid", "gid")),
    "time to the nanosecond": time_of(1_000_000_000_123_456_789),
    "times before 1970": time_of(-1),
    "times beyond 2106": time_of((1 << 32) * 10**9 + 7),
    "times of directories": (grow_dir_time, lambda d: of(f"{d}/d", "mtime_ns")),
    "owner and time of symlinks": (grow_link, lambda d: of(f"{d}/l", "uid", "gid", "mtime_ns")),
    "xattr `user.`": xattr("user.key"),
    "xattr `trusted.`": xattr("trusted.key"),
    "xattr `security.`": xattr("security.key"),
    "capabilities": xattr("security.capability", CAPABILITY),
    "ACL": (grow_acl, lambda d: run("getfacl", "-n", "-c", "f", cwd=d)),
    "default ACL": (grow_default_acl, lambda d: run("getfacl", "-n", "-c", "d", cwd=d)),
    "`chattr +i`": flag("i", 0x10),
    "`chattr +a`": flag("a", 0x20),
    "`chattr +d`": flag("d", 0x40),
    "`chattr +A`": flag("A", 0x80),
    "`chattr +C`": flag("C", 0x800000),
    "project id": (grow_project, lambda d: project_of(f"{d}/f")),
    "fifo": (lambda d: mknod(f"{d}/f", stat.S_IFIFO), lambda d: of(f"{d}/f", "mode")),
    "socket": (lambda d: mknod(f"{d}/f", stat.S_IFSOCK), lambda d: of(f"{d}/f", "mode")),
    "devices": (
        lambda d: (mknod(f"{d}/c", stat.S_IFCHR, os.makedev(1, 3)), mknod(f"{d}/b", stat.S_IFBLK, os.makedev(7, 200))),
        lambda d: [of(f"{d}/{n}", "mode", "rdev") for n in "bc"]),
    "hard links of files": (linked(write), lambda d: os.path.samefile(f"{d}/one", f"{d}/below/two")),
    "hard links of symlinks": (linked(lambda p: symlink("x", p)), lambda d: of(f"{d}/one", "ino") == of(f"{d}/below/two", "ino")),
    "hard links of devices": (
        linked(lambda p: mknod(p, stat.S_IFCHR, os.makedev(1, 5))),
        lambda d: of(f"{d}/one", "ino", "rdev") == of(f"{d}/below/two", "ino", "rdev")),
    "holes in their places": (lambda d: sparse(f"{d}/f", HOLEY, 500 * BLOCK + 77), lambda d: data_of(f"{d}/f")),
    "zeros on the disk stay there": (lambda d: sparse(f"{d}/f", [(0, bytes(4 << 20))], 4 << 20), lambda d: data_of(f"{d}/f")),
    "names of any bytes": (grow_names, lambda d: sorted(os.listdir(os.fsencode(d)))),
    FAR: (far, far_of),
}


def seen(look, dir):
    try:
        return look(dir)
    except (OSError, RuntimeError) as error:
        return ("missing", type(error).__name__)


class Tool:
    def __init__(self, name, work):
        self.name, self.work, self.repo = name, work, f"{work}/{name}"
        self.binary = os.environ.get(name.upper(), name)

    def there_and_back(self, top, back):
        """Each program with what its manual has for a restore as it was; complaints count only in what is missing."""
        os.makedirs(back)
        call = lambda *words, **more: run(self.binary, *words, may_fail=True, **more)
        if self.name == "raidtape":
            env = {"RAIDTAPE_CATALOG": f"{self.work}/backup.cat"}
            call("backup", top, "--volume", self.repo, env=env)
            call("revert-to-run", "1", back, env=env)
        elif self.name == "restic":
            env = {"RESTIC_REPOSITORY": self.repo, "RESTIC_PASSWORD": "x", "RESTIC_CACHE_DIR": f"{self.work}/cache"}
            call("init", env=env)
            call("backup", ".", env=env, cwd=top)
            call("restore", "latest", "--target", back, "--sparse", env=env)
        else:
            env = {"BORG_REPO": self.repo, "BORG_BASE_DIR": f"{self.work}/base", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
            call("init", "-e", "none", env=env)
            call("create", "--sparse", "::one", ".", env=env, cwd=top)
            call("extract", "--sparse", "::one", env=env, cwd=back)


def on_file_system(kind, tools, size):
    """Cells by feature and tool; a feature that this file system or kernel has not is left out."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as work:
        image, mount = f"{work}/image", f"{work}/fs"
        with open(image, "wb") as file:
            file.truncate(size << 20)
        os.mkdir(mount)
        run(f"mkfs.{kind}", "-q", image)
        run("mount", "-o", "loop", image, mount)
        try:
            return compared(kind, mount, (tools, work))
        finally:
            run("umount", "-l", mount)


def compared(kind, mount, where):
    tools, work = where
    cells = {}
    # What ends a program must not cost it all the rest.
    for group, features in enumerate(([name for name in FEATURES if name != FAR], [FAR])):
        wanted = {}
        for number, feature in enumerate(features):
            grow, look = FEATURES[feature]
            dir = f"{mount}/src{group}/{number}"
            os.makedirs(dir)
            try:
                grow(dir)
                value = look(dir)
            except (OSError, RuntimeError) as error:
                print(f"{kind} has no {feature}: {error}", file=sys.stderr)
                continue
            if value or not feature.startswith("`chattr"):
                wanted[feature] = (number, look, value)
        for name in tools:
            os.mkdir(f"{work}/{name}{group}")
            back = f"{mount}/back{group}-{name}"
            Tool(name, f"{work}/{name}{group}").there_and_back(f"{mount}/src{group}", back)
            for feature, (number, look, value) in wanted.items():
                cells[feature, name] = seen(look, f"{back}/{number}") == value
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fs", default="ext4,xfs,btrfs")
    parser.add_argument("--tools", default="raidtape,restic,borg")
    parser.add_argument("--size", type=int, default=512)
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("compare.py needs root: for devices, owners, and loop mounts")
    kinds, tools = args.fs.split(","), args.tools.split(",")
    found = {kind: on_file_system(kind, tools, args.size) for kind in kinds}
    print("| | " + " | ".join(tools) + " |\n|---|" + "---|" * len(tools))
    for feature in FEATURES:
        line = []
        for tool in tools:
            tried = {kind: found[kind][feature, tool] for kind in kinds if (feature, tool) in found[kind]}
            good = [kind for kind in tried if tried[kind]]
            line.append("not tried" if not tried else "yes" if len(good) == len(tried) else ", ".join(good) + " only" if good else "no")
        print(f"| {feature} | " + " | ".join(line) + " |")


main()
