"""The tools that survive.py tries: how each stores three runs, checks, repairs, and gives back."""
import os
import pathlib
import random
import re
import shutil
import subprocess

import disks
from disks import RUNS, Skip, Tool, compared, disk, edit, flip, killed, must, run, told, tree_size, walk


class RaidTape(Tool):
    def __init__(self, binary, redundancy):
        super().__init__()
        self.binary, self.redundancy, self.name = binary, redundancy, f"RaidTape `{redundancy}`"

    def programs(self):
        return [self.binary]

    def call(self, *args):
        return (self.binary, "--catalog", f"{self.home}/backup.cat", *args)

    def init(self):
        code, _ = run(*self.call("init", "--redundancy", self.redundancy, "--block-size", "8M", "--reserve", "1"))
        if code:
            raise Skip(f"`init --redundancy {self.redundancy}` ends with {code}: this raidtape does not have it")
        for number in (1, 2, 3):
            must(*self.call("add-volume", disk(number) / "raidtape", "--name", f"d{number}", "--reserve", "1"))

    def build(self):
        wanted, self.redundancy = self.redundancy, "none"
        super().build()
        self.bare, self.redundancy, self.seconds = self.size, wanted, 0.0
        super().build()

    def save(self):
        return must(*self.call("backup", f"{disks.WORK}/src", "--name", "src", "-q"))

    def next(self):
        return run(*self.call("backup", f"{disks.WORK}/src", "--name", "src"))[0]

    def fourth(self, after):
        args = self.call("backup", f"{disks.WORK}/src", "--name", "src", "-q")
        return must(*args) if after is None else killed(*args, after=after)

    def check(self):
        return told(run(*self.call("validate"))[0], self.warning)

    def restore(self, number, out):
        return run(*self.call("revert-to-run", number, out))

    def mend(self, lost=None):
        if lost is None:
            return run(*self.call("validate", "--repair"))
        return run(*self.call("replace-volume", f"d{lost}", disk(lost) / "raidtape", "--name", f"new{lost}"))

    def forget(self):
        for path in pathlib.Path(self.home).glob("backup.cat*"):
            path.unlink()

    def remember(self, lost):
        here = [word for number in (1, 2, 3) if number != lost for word in ("--volume", disk(number) / "raidtape")]
        code, took = run(*self.call("rebuild-catalog", *here))
        more, again = self.mend(lost)
        return more, took + again, f"rebuild-catalog (exit {code}), then replace-volume"

    def forget_all(self):
        return None

    def blocks(self, number):
        """Blocks by name, the parity files aside, largest first: a container of kind 3 is one."""
        files = [path for path in disk(number).rglob("*") if re.fullmatch("[0-9a-f]{64}", path.name)]
        sound = [path for path in files if path.read_bytes()[12] == 1]
        return {path.name: path for path in sorted(sound, key=lambda path: (-path.stat().st_size, path.name))}

    def related(self):
        """Two blocks, on two disks, of which each is needed when the other is damaged: copies, or members of one group."""
        mine = {number: self.blocks(number) for number in (1, 2, 3)}
        pairs = [(one, other) for one in (1, 2) for other in range(one + 1, 4)]
        for one, other in pairs if self.redundancy.startswith("copies") else ():
            for name in mine[one].keys() & mine[other].keys():
                return mine[one][name], mine[other][name]
        files = [path.read_bytes() for number in (1, 2, 3) for path in disk(number).rglob("*") if path.is_file()]
        parities = [read for read in files if read[12:13] == b"\3"]
        for one, other in pairs:
            for name, path in mine[one].items():
                for second, beside in mine[other].items():
                    ids = bytes.fromhex(name), bytes.fromhex(second)
                    if name != second and any(all(an_id in parity for an_id in ids) for parity in parities):
                        return path, beside
        raise Skip("no two blocks were found that protect each other")

    def rot(self, kind):
        one, other = self.related()
        size = min(one.stat().st_size, other.stat().st_size)
        if kind == "apart":
            beside = self.blocks(int(other.relative_to(disks.WORK).parts[0][1:]))
            other = next((path for name, path in beside.items() if name not in (one.name, other.name)), None)
            if other is None:
                raise Skip("no further block lies on the other disk")
        flip(one, size // 3)
        if kind != "one":
            flip(other, size // 3 if kind == "same" else min(size, other.stat().st_size) * 2 // 3)


class SnapRaid(Tool):
    name, kills, has_versions, block = "SnapRAID 2+1", ("sync",), False, 16 << 10

    def programs(self):
        return ["snapraid", "rsync"]

    def call(self, *args):
        alone = ["--test-skip-device"] if os.geteuid() else []
        return ("snapraid", "-c", f"{self.home}/snapraid.conf", *alone, *args)

    def init(self):
        self.expected, self.place, load = disks.TRUTH[RUNS], {}, {1: 0, 2: 0}
        tops = sorted(pathlib.Path(f"{disks.WORK}/truth1").iterdir(), key=tree_size, reverse=True)
        for top in tops:
            self.place[top.name] = min(load, key=load.get)
            load[self.place[top.name]] += tree_size(top)
        self.configure()

    def configure(self):
        pathlib.Path(f"{self.home}/snapraid.conf").write_text(
            f"parity {disk(3)}/parity\n"
            f"content {self.home}/content\ncontent {disk(1)}/content\ncontent {disk(2)}/content\n"
            f"data d1 {disk(1)}/\ndata d2 {disk(2)}/\n"
            f"exclude /lost+found/\nblocksize {self.block >> 10}\n"
        )

    def copy(self):
        for top, number in self.place.items():
            (disk(number) / "tree").mkdir(exist_ok=True)
            must("rsync", "-a", "--delete", f"{disks.WORK}/src/{top}", disk(number) / "tree")

    def save(self):
        self.copy()
        return must(*self.call("sync"))

    def build(self):
        super().build()
        self.bare = tree_size(f"{disks.WORK}/truth{RUNS}")

    def reset(self):
        super().reset()
        self.expected = disks.TRUTH[RUNS]

    def next(self):
        return run(*self.call("sync"))[0]

    def fourth(self, after):
        self.copy()
        return must(*self.call("sync")) if after is None else killed(*self.call("sync"), after=after)

    def check(self):
        return told(run(*self.call("check"))[0], self.warning)

    def mend(self, lost=None):
        only = [] if lost is None else ["-d", f"d{lost}" if lost < 3 else "parity"]
        return run(*self.call(*only, "fix"))

    def here(self):
        return walk(f"{disk(1)}/tree") | walk(f"{disk(2)}/tree")

    def before_loss(self, number, is_unsynced):
        self.expected = self.here()
        if is_unsynced and number < 3:
            synced = disks.TRUTH[RUNS].items()
            self.expected = {path: value for path, value in synced if self.place[path.split("/")[0]] == number}

    def back(self):
        found = self.here()
        lost = [path for path, value in self.expected.items() if found.get(path, (None,))[:2] != value[:2]]
        synced = sum(disks.TRUTH[RUNS].get(path) == self.expected[path] for path in lost)
        note = f"{synced} of them were synced and unchanged" if synced < len(lost) else ""
        return compared(self.expected, found, note=note)

    latest = back

    def unsynced(self):
        for number in (1, 2):
            edit(f"{disk(number)}/tree", random.Random(6))

    def forget(self):
        for name in ("content", "snapraid.conf"):
            os.remove(f"{self.home}/{name}")

    def forget_all(self):
        for path in (f"{self.home}/content", f"{disk(1)}/content", f"{disk(2)}/content"):
            pathlib.Path(path).unlink(missing_ok=True)
        return "every content file gone"

    def remember(self, lost):
        self.configure()
        return (*self.mend(lost), "the configuration written again, then fix by a data disk's content file")

    def old(self):
        first, last = disks.TRUTH[1], disks.TRUTH[RUNS]
        changed = [path for path in first if path in last and last[path][:2] != first[path][:2]]
        code, _ = run(*self.call(*(word for path in changed[:200] for word in ("-f", f"/tree/{path}")), "fix"))
        found = self.here()
        # What was changed after the last sync, on the other hand, can be had as it was then.
        path = changed[0]
        (disk(self.place[path.split("/")[0]]) / "tree" / path).write_bytes(b"changed since")
        run(*self.call("-f", f"/tree/{path}", "fix"))
        undone = self.here().get(path, (None,))[:2] == disks.TRUTH[RUNS][path][:2]
        note = f"only the state of the last sync, which a later change {'can' if undone else 'cannot'} be taken back to"
        return compared({path: disks.TRUTH[1][path] for path in changed[:200]}, found, told(code, self.warning), note)

    def positions(self):
        """Where in the parity the first block of each larger file is: one byte in each is damaged, and `check` says where."""
        where = {}
        for path in disks.TRUTH[RUNS]:
            file = disk(self.place[path.split("/")[0]]) / "tree" / path
            if not file.is_symlink() and file.stat().st_size >= 3 * self.block:
                flip(file, 0)
        run(*self.call("-l", f"{disks.WORK}/where", "check"))
        for line in pathlib.Path(f"{disks.WORK}/where").read_text(errors="replace").splitlines():
            match = re.match(r"error:(\d+):d([12]):([^:]+): Data error", line)
            if match:
                where[int(match[2]), match[3]] = int(match[1])
        os.remove(f"{disks.WORK}/where")
        self.reset()
        return where

    def rot(self, kind):
        where = self.positions()
        ones, others = ({path: at for (number, path), at in where.items() if number == wanted} for wanted in (1, 2))
        size_of = lambda number, path: os.stat(disk(number) / path).st_size // self.block
        both = ((one, at, other, there) for one, at in ones.items() for other, there in others.items())
        pair = next(((one, other) for one, at, other, there in both if at <= there < at + size_of(1, one) - 1), None)
        if pair is None:
            raise Skip("no two files were found that share parity")
        one, other = disk(1) / pair[0], disk(2) / pair[1]
        if kind == "apart":
            first, length = ones[pair[0]], size_of(1, pair[0])
            other = disk(2) / next(path for path, at in others.items() if not 0 <= at - first <= length)
        flip(one, (others[pair[1]] - ones[pair[0]]) * self.block if kind == "same" else 0)
        if kind != "one":
            flip(other, 0 if kind == "same" else self.block)


class Par2(Tool):
    used, kills = (1, 2), ("backup", "par2 create")

    def __init__(self, percent):
        super().__init__()
        self.percent, self.name = percent, f"restic + `par2 -r{percent}`"
        self.env = {
            **os.environ,
            "RESTIC_PASSWORD": "x",
            "RESTIC_REPOSITORY": f"{disks.WORK}/d1/repo",
            "RESTIC_CACHE_DIR": f"{disks.WORK}/home/cache",
        }
        self.binary = os.environ.get("RESTIC", "restic")

    def programs(self):
        return [self.binary, "par2"]

    def restic(self, *args):
        return run(self.binary, *args, env=self.env)

    def init(self):
        if self.restic("init", "-q")[0]:
            raise RuntimeError("restic init failed")

    def create(self, where):
        os.makedirs(where)
        repo = f"{disks.WORK}/d1/repo"
        return ("par2", "create", "-q", "-q", "-R", f"-r{self.percent}", "-B", repo, f"{where}/all.par2", repo)

    def protect(self):
        new, place = disk(2) / "par.new", disk(2) / "par"
        shutil.rmtree(new, ignore_errors=True)
        took = must(*self.create(new))
        shutil.rmtree(place, ignore_errors=True)
        os.rename(new, place)
        return took

    def save(self):
        code, took = self.restic("-q", "backup", f"{disks.WORK}/src")
        if code:
            raise RuntimeError("restic backup failed")
        return took + self.protect()

    def build(self):
        super().build()
        self.reset()
        self.bare = tree_size(disk(1))

    def next(self):
        return self.restic("-q", "backup", f"{disks.WORK}/src")[0]

    def fourth(self, after):
        backup = (self.binary, "-q", "backup", f"{disks.WORK}/src")
        if self.killing == "backup":
            return self.restic(*backup[1:])[1] if after is None else killed(*backup, after=after, env=self.env)
        self.restic(*backup[1:])
        return self.protect() if after is None else killed(*self.create(disk(2) / "par.new"), after=after)

    def check(self):
        self.restic("unlock", "-q")
        par2, _ = run("par2", "verify", "-q", "-q", "-B", f"{disks.WORK}/d1/repo", disk(2) / "par/all.par2")
        return told(self.restic("-q", "check", "--read-data")[0] or par2, "rror")

    def restore(self, number, out):
        ask = [self.binary, "-q", "snapshots", "--json"]
        told_of = subprocess.run(ask, env=self.env, capture_output=True, timeout=120).stdout.decode()
        ids = re.findall(r'"id":"([0-9a-f]{64})"', told_of)
        return self.restic("-q", "restore", ids[number - 1], "--target", out) if len(ids) >= number else (1, 0.0)

    def root_of(self, out):
        return f"{out}{disks.WORK}/src"

    def mend(self, lost=None):
        if lost == 2 and os.path.exists(f"{disks.WORK}/d1/repo/config"):
            return 0, self.protect()
        os.makedirs(f"{disks.WORK}/d1/repo", exist_ok=True)
        code, took = run("par2", "repair", "-q", "-q", "-B", f"{disks.WORK}/d1/repo", disk(2) / "par/all.par2")
        self.restic("unlock", "-q")
        return code, took

    def forget(self):
        shutil.rmtree(f"{self.home}/cache", ignore_errors=True)

    def forget_all(self):
        return None

    def remember(self, lost):
        return (*self.mend(lost), "par2 repair" if lost == 1 else "par2 create")

    def rot(self, kind):
        if kind == "apart":
            raise Skip("all that lies on d2 protects what lies on d1: see the next")
        pack = max((disk(1) / "repo/data").rglob("?" * 64), key=lambda path: path.stat().st_size)
        beside = max((disk(2) / "par").iterdir(), key=lambda path: path.stat().st_size)
        size = min(pack.stat().st_size, beside.stat().st_size)
        flip(pack, size // 3)
        if kind != "one":
            flip(beside, size // 3 if kind == "same" else size * 2 // 3)
