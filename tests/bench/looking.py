#!/usr/bin/env python3
"""How soon the commands that look around answer: on a catalog of many versions that is made up, or on one that is there.

    looking.py --work DIR [--versions 10000000] [--json FILE]
    looking.py --catalog FILE --path PATH [--json FILE]

The first form makes a catalog below DIR with `raidtape init` and fills it by SQL: ten runs of one source, in each of which
every file has a new content of one chunk of its own; 100 files in each directory, 128 MiB in each block. Ten million versions
take 2.5 GB and four minutes. No volume holds these bytes: it is for looking only. The second form looks at a catalog that
backups made; PATH is a file in it that has changed.

For each command: milliseconds to the first byte on a terminal (a bar counts), seconds to the end, MiB of memory at most, lines. RAIDTAPE names the
binary, by default the one on PATH.
"""
import argparse
import json
import multiprocessing
import os
import pty
import sqlite3
import subprocess
import sys
import time

BINARY = os.environ.get("RAIDTAPE", "raidtape")
RUNS = 10


def fill(catalog, versions):
    """Ten runs: every file is in `live` once and in `past` nine times."""
    files = versions // RUNS
    db = sqlite3.connect(catalog, isolation_level=None)
    db.execute("PRAGMA journal_mode=OFF")
    db.execute("PRAGMA synchronous=OFF")
    db.execute("PRAGMA cache_size=-1000000")
    indexes = db.execute("SELECT name, sql FROM sqlite_master WHERE type='index' AND sql IS NOT NULL").fetchall()
    for name, _ in indexes:
        db.execute(f"DROP INDEX {name}")
    count = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {}) "
    second, day = 10**9, 86400 * 10**9
    now = time.time_ns()
    db.execute("BEGIN")
    db.execute("INSERT INTO sources(id, host, name, roots) VALUES(1, 'host', '/data', '[\"/data\"]')")
    db.execute("INSERT INTO owners(id, uid, gid, uname, gname) VALUES(1, 1000, 1000, CAST('user' AS BLOB), CAST('users' AS BLOB))")
    for run in range(1, RUNS + 1):
        at = now - (RUNS - run) * day - 3600 * second
        db.execute(
            "INSERT INTO runs(seq, uuid, source, kind, state, prev, started_ns, ended_ns, added, modified, unchanged, bytes_total,"
            " bytes_read, bytes_new, bytes_stored) VALUES(?, randomblob(16), 1, 'backup', 'complete', ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)",
            (run, run - 1 or None, at, at + 600 * second, files if run == 1 else 0, 0 if run == 1 else files) + (files * 200_000,) * 3 + (files * 100_000,),
        )
    # The root, then directories of 100 files, 1,000 of them in each.
    dirs = files // 100
    db.execute("INSERT INTO dirs(id, source, path) VALUES(1, 1, x'')")
    db.execute(count.format(dirs // 1000 + 1) + "INSERT INTO dirs(source, path) SELECT 1, CAST(printf('%04d', i) AS BLOB) FROM n")
    db.execute(count.format(dirs) + "INSERT INTO dirs(source, path) SELECT 1, CAST(printf('%04d/dir-%06d', i / 1000, i) AS BLOB) FROM n")
    first = db.execute("SELECT min(id) FROM dirs WHERE length(path) > 4").fetchone()[0]
    live = "INSERT INTO live(dir, name, first_run, mode, owner, size, mtime_ns, obj, link, flags, ctime_ns, ino, nlink, marks) "
    a_dir = f"1, {0o40755}, 1, 0, {now}, NULL, 0, 0, {now}, 1, 2, 0"
    db.execute(live + f"VALUES(1, x'', {a_dir})")
    db.execute(count.format(dirs // 1000 + 1) + live + f"SELECT 1, CAST(printf('%04d', i) AS BLOB), {a_dir} FROM n")
    db.execute(count.format(dirs) + live + f"SELECT 2 + i / 1000, CAST(printf('dir-%06d', i) AS BLOB), {a_dir} FROM n")
    a_file = f"{0o100644}, 1, 1000 + i % 399000, {now} - i * 1000"
    name = f"{first} + i / 100, CAST(printf('file-%02d.dat', i % 100) AS BLOB)"
    db.execute(count.format(files) + live + f"SELECT {name}, {RUNS}, {a_file}, {(RUNS - 1) * files} + i + 1, 0, 0, {now}, i, 1, 0 FROM n")
    past = "INSERT INTO past(dir, name, first_run, last_run, why, mode, owner, size, mtime_ns, obj, link, flags) "
    runs = f"(WITH RECURSIVE r(r) AS (SELECT 1 UNION ALL SELECT r + 1 FROM r WHERE r < {RUNS - 1}) SELECT r FROM r)"
    db.execute(count.format(files) + past + f"SELECT {name}, r, r, 1, {a_file}, (r - 1) * {files} + i + 1, 0, 0 FROM n, {runs}")
    # Contents and chunks, a number for each version; 40 chunks in a segment, 1,000 in a block.
    db.execute(count.format(versions) + "INSERT INTO contents(id, size, hash, chunk, n) SELECT i + 1, 1000 + i % 399000, randomblob(32), i + 1, 1 FROM n")
    db.execute(count.format(versions) + "INSERT INTO chunks(no, id, seg, off, len) SELECT i + 1, randomblob(32), i / 40 + 1, i % 40 * 100000, 1000 + i % 399000 FROM n")
    db.execute("INSERT INTO content_keys SELECT substr(hash, 1, 8), id FROM contents ORDER BY 1, 2")
    db.execute("INSERT INTO chunk_keys SELECT substr(id, 1, 8), no FROM chunks ORDER BY 1, 2")
    db.execute(count.format(versions // 40 + 1) + "INSERT INTO segments(id, block, off, stored, raw, codec) SELECT i + 1, i / 25 + 1, i % 25 * 4000000, 4000000, 8000000, 1 FROM n")
    db.execute(count.format(versions // 1000 + 1) + f"INSERT INTO blocks(id, name, kind, size, state, run) SELECT i + 1, randomblob(32), 1, 100000000, 'ok', 1 + i * {RUNS} / {versions // 1000 + 1} FROM n")
    db.execute("INSERT INTO copies(block, volume, role, state, verified_ns) SELECT id, 1 + id % (SELECT max(id) FROM volumes), 0, 'ok', NULL FROM blocks")
    db.execute("COMMIT")
    for _, sql in indexes:
        db.execute(sql)
    db.execute("PRAGMA journal_mode=WAL")
    db.close()
    return "0000/dir-000000/file-42.dat"


def timed(words):
    """On a terminal: elsewhere a line waits until a buffer is full."""
    master, terminal = pty.openpty()
    began = time.monotonic()
    process = subprocess.Popen([BINARY, *words], stdout=terminal, stderr=terminal)
    os.close(terminal)
    first, lines, last = None, 0, b""
    while True:
        try:
            out = os.read(master, 1 << 16)
        except OSError:  # The other end is closed.
            break
        if not out:
            break
        first = first or time.monotonic() - began
        lines += out.count(b"\n")
        last = (last + out)[-2000:]
    os.close(master)
    _, status, used = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return {"first": first, "wall": time.monotonic() - began, "rss": used.ru_maxrss / 1024, "lines": lines, "code": code, "said": last.decode(errors="replace")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work")
    parser.add_argument("--versions", type=int, default=10_000_000)
    parser.add_argument("--catalog")
    parser.add_argument("--path")
    parser.add_argument("--json")
    options = parser.parse_args()
    catalog, path = options.catalog, options.path
    if options.work:
        os.makedirs(options.work)
        catalog = f"{options.work}/backup.cat"
        for words in (["init"], ["add-volume", f"{options.work}/disk1"], ["add-volume", f"{options.work}/disk2"]):
            subprocess.run([BINARY, "--catalog", catalog, *words], check=True, stdout=subprocess.DEVNULL)
        # In a process of its own: what a child inherits counts as its memory.
        path = multiprocessing.get_context("fork").Pool(1).apply(fill, (catalog, options.versions))
    db = sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)
    runs = [run for (run,) in db.execute("SELECT seq FROM runs WHERE state = 'complete' ORDER BY seq")]
    block = db.execute("SELECT lower(hex(name)) FROM blocks ORDER BY id LIMIT 1").fetchone()[0]
    chunk = db.execute("SELECT lower(hex(id)) FROM chunks ORDER BY no LIMIT 1").fetchone()[0]
    volume = db.execute("SELECT name FROM volumes ORDER BY id LIMIT 1").fetchone()[0]
    hash_ = db.execute("SELECT lower(hex(hash)) FROM contents ORDER BY id LIMIT 1").fetchone()[0]
    db.close()
    parent, name = os.path.split(path)
    asked = [
        ["runs"], ["volumes"], ["ls"], ["ls", "-l", parent], ["ls", "-R"], ["ls", f"latest~1:{parent}"], ["history", path], ["find", name],
        ["find", "no-such-name"], ["find", "-i", "NO-SUCH*"], ["find", "?????"], ["find", "--hash", hash_], ["find", "--size", "+1G"], ["find", "--block", block], ["find", "--chunk", chunk],
        ["find", "--on-volume", volume], ["diff", str(runs[-2]), str(runs[-1])], ["list-changes", str(runs[-1])], ["stats"], ["status"],
        ["volumes", "--lost", volume], ["report", f"{catalog}.html"],
    ]
    print("| | first line, ms | s | peak MiB | lines |\n|---|---|---|---|---|")
    rows = []
    for words in asked:
        row = timed(["--catalog", catalog, *words])
        shown = " ".join(word if len(word) < 40 else f"{word[:8]}…" for word in words).replace(os.path.dirname(catalog) + "/", "")
        rows.append({"what": shown, **row})
        first = "" if row["first"] is None else f"{row['first'] * 1000:.0f}"
        print(f"| `{shown}` | {first} | {row['wall']:.2f} | {row['rss']:.0f} | {row['lines']:,} |", flush=True)
        if row["code"] not in (0, 1, 2) or (row["code"] and words[0] != "status"):
            sys.exit(f"{shown}: exit {row['code']}: {row['said']}")
    if options.json:
        with open(options.json, "w") as out:
            json.dump(rows, out, indent=1)


main()
