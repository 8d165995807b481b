-- The catalog, schema 5. Facts may be written at any time and mean nothing until a version names them;
-- live, past and a run's state 'complete' are written by the one transaction that completes a run.
CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE sources(
  id INTEGER PRIMARY KEY, host TEXT NOT NULL, name TEXT NOT NULL, roots TEXT NOT NULL,
  next_link INTEGER NOT NULL DEFAULT 1, UNIQUE(host, name)) STRICT;
CREATE TABLE owners(
  id INTEGER PRIMARY KEY, uid INTEGER NOT NULL, gid INTEGER NOT NULL, uname BLOB NOT NULL, gname BLOB NOT NULL,
  UNIQUE(uid, gid, uname, gname)) STRICT;
CREATE TABLE attrs(id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, body BLOB NOT NULL) STRICT;
-- An interned name, not existence. mount: 1 = was a mount point when last seen, 2 = its inodes are not to be trusted.
CREATE TABLE dirs(
  id INTEGER PRIMARY KEY, source INTEGER NOT NULL, path BLOB NOT NULL, mount INTEGER NOT NULL DEFAULT 0,
  volume INTEGER, UNIQUE(source, path)) STRICT;
-- state: active | sealed | readonly | lost (given up: its copies do not count) | removed (no volume of the repository any
-- more). last_seq, last_manifest: the newest manifest that it is known to hold.
CREATE TABLE volumes(
  id INTEGER PRIMARY KEY, uuid BLOB NOT NULL UNIQUE, name TEXT NOT NULL, state TEXT NOT NULL, reserve TEXT NOT NULL,
  path BLOB, last_seq INTEGER, last_manifest BLOB) STRICT;
-- kind: 1 = chunks, 3 = parity. state: ok | bad | condemned | deleting | gone. run: the complete run whose manifest lists it.
CREATE TABLE blocks(
  id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, kind INTEGER NOT NULL, size INTEGER NOT NULL,
  state TEXT NOT NULL, run INTEGER) STRICT;
CREATE INDEX blocks_unlisted ON blocks(id) WHERE run IS NULL;
-- role: 0 = its run's record tells of it, 1 = made later. state: ok | bad | missing | deleting (not needed any more: its file goes, then the row).
CREATE TABLE copies(
  block INTEGER NOT NULL, volume INTEGER NOT NULL, role INTEGER NOT NULL, state TEXT NOT NULL, verified_ns INTEGER,
  PRIMARY KEY(block, volume)) STRICT, WITHOUT ROWID;
CREATE INDEX copies_by_volume ON copies(volume, block);
CREATE TABLE segments(
  id INTEGER PRIMARY KEY, block INTEGER NOT NULL, off INTEGER NOT NULL, stored INTEGER NOT NULL, raw INTEGER NOT NULL,
  codec INTEGER NOT NULL, UNIQUE(block, off)) STRICT;
-- seg 0: known by name from a manifest, its bytes are not.
CREATE TABLE chunks(
  no INTEGER PRIMARY KEY, id BLOB NOT NULL, seg INTEGER NOT NULL, off INTEGER NOT NULL, len INTEGER NOT NULL) STRICT;
CREATE INDEX chunks_by_segment ON chunks(seg);
-- The first 8 bytes of each id. A table, since it is filled in its own order.
CREATE TABLE chunk_keys(key BLOB NOT NULL, chunk INTEGER NOT NULL, PRIMARY KEY(key, chunk)) STRICT, WITHOUT ROWID;
-- Further places of a chunk, used when the first one is damaged or away.
CREATE TABLE chunk_more(
  no INTEGER NOT NULL, seg INTEGER NOT NULL, off INTEGER NOT NULL, PRIMARY KEY(no, seg, off)) STRICT, WITHOUT ROWID;
CREATE INDEX chunk_more_by_segment ON chunk_more(seg);
-- The first extent lies in the row; chunk 0 stands for zeros, n 0 for an empty file.
CREATE TABLE contents(
  id INTEGER PRIMARY KEY, size INTEGER NOT NULL, hash BLOB NOT NULL, chunk INTEGER NOT NULL, n INTEGER NOT NULL) STRICT;
CREATE INDEX contents_by_chunk ON contents(chunk);
-- The first 8 bytes of each hash.
CREATE TABLE content_keys(key BLOB NOT NULL, content INTEGER NOT NULL, PRIMARY KEY(key, content)) STRICT, WITHOUT ROWID;
-- Second and later extents.
CREATE TABLE extents(
  content INTEGER NOT NULL, at INTEGER NOT NULL, chunk INTEGER NOT NULL, n INTEGER NOT NULL,
  PRIMARY KEY(content, at)) STRICT, WITHOUT ROWID;
CREATE INDEX extents_by_chunk ON extents(chunk);
-- A set of parities of some blocks; with other members it is another group. uuid: as its files have it.
CREATE TABLE parity_groups(
  id INTEGER PRIMARY KEY, k INTEGER NOT NULL, m INTEGER NOT NULL, algo INTEGER NOT NULL, state TEXT NOT NULL,
  uuid BLOB) STRICT;
CREATE UNIQUE INDEX parity_groups_by_uuid ON parity_groups(uuid);
-- pos: 0 to k - 1 for blocks, k + index for parities. len: bytes of the file.
CREATE TABLE parity_members(
  grp INTEGER NOT NULL, pos INTEGER NOT NULL, block INTEGER NOT NULL, len INTEGER NOT NULL,
  PRIMARY KEY(grp, pos)) STRICT, WITHOUT ROWID;
CREATE INDEX parity_members_by_block ON parity_members(block);
-- state: open | complete | aborted | forgotten | unreachable. selected: 1 = something may have been left out on purpose, or
-- it was a stream; roots: those of this run. Both are null where nobody knows: before schema 2.
CREATE TABLE runs(
  seq INTEGER PRIMARY KEY, uuid BLOB NOT NULL UNIQUE, source INTEGER NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL,
  prev INTEGER, started_ns INTEGER NOT NULL, ended_ns INTEGER, digest BLOB, manifest BLOB,
  added INTEGER NOT NULL DEFAULT 0, modified INTEGER NOT NULL DEFAULT 0, metadata INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0, unchanged INTEGER NOT NULL DEFAULT 0, problems INTEGER NOT NULL DEFAULT 0,
  bytes_total INTEGER NOT NULL DEFAULT 0, bytes_read INTEGER NOT NULL DEFAULT 0, bytes_new INTEGER NOT NULL DEFAULT 0,
  bytes_stored INTEGER NOT NULL DEFAULT 0, label TEXT, tags TEXT,
  manifest_bytes INTEGER, full_bytes INTEGER, selected INTEGER, roots TEXT) STRICT;
CREATE INDEX runs_by_source ON runs(source, seq);
-- mode: as st_mode, with the file type. obj: content id | symlink target (blob) | device number. flags: 1 = inconsistent.
-- The second line serves detection only and is touched in place. marks: 1 = racy, 2 = read again.
CREATE TABLE live(
  dir INTEGER NOT NULL, name BLOB NOT NULL, first_run INTEGER NOT NULL, mode INTEGER NOT NULL, owner INTEGER NOT NULL,
  size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, btime_ns INTEGER, obj ANY, link INTEGER NOT NULL, attr INTEGER,
  flags INTEGER NOT NULL,
  ctime_ns INTEGER NOT NULL, ino INTEGER NOT NULL, nlink INTEGER NOT NULL, marks INTEGER NOT NULL,
  PRIMARY KEY(dir, name)) STRICT, WITHOUT ROWID;
CREATE INDEX live_by_object ON live(obj) WHERE obj IS NOT NULL;
-- why: 1 modified, 2 deleted, 3 excluded.
CREATE TABLE past(
  dir INTEGER NOT NULL, name BLOB NOT NULL, first_run INTEGER NOT NULL, last_run INTEGER NOT NULL, why INTEGER NOT NULL,
  mode INTEGER NOT NULL, owner INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, btime_ns INTEGER,
  obj ANY, link INTEGER NOT NULL, attr INTEGER, flags INTEGER NOT NULL,
  PRIMARY KEY(dir, name, first_run)) STRICT, WITHOUT ROWID;
CREATE INDEX past_by_object ON past(obj) WHERE obj IS NOT NULL;
-- Rows that a run which is not complete left for the next one to compare with. op: 1 put, 2 touch, 3 end (reason in obj).
CREATE TABLE pending(
  run INTEGER NOT NULL, dir INTEGER NOT NULL, name BLOB NOT NULL, op INTEGER NOT NULL, mode INTEGER NOT NULL,
  owner INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, btime_ns INTEGER, obj ANY,
  link INTEGER NOT NULL, attr INTEGER, flags INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, ino INTEGER NOT NULL,
  nlink INTEGER NOT NULL, marks INTEGER NOT NULL, PRIMARY KEY(run, dir, name)) STRICT, WITHOUT ROWID;
CREATE TABLE problems(
  run INTEGER NOT NULL, path BLOB NOT NULL, op TEXT NOT NULL, errno INTEGER, text TEXT NOT NULL) STRICT;
CREATE INDEX problems_by_run ON problems(run);
-- What genmeta wrote last for a block's copy.
CREATE TABLE sidecars(
  block INTEGER NOT NULL, volume INTEGER NOT NULL, digest BLOB NOT NULL,
  PRIMARY KEY(block, volume)) STRICT, WITHOUT ROWID;

CREATE VIEW file_versions AS
SELECT s.host AS host, s.name AS source,
  CASE length(d.path) WHEN 0 THEN CAST(v.name AS TEXT) ELSE CAST(d.path AS TEXT) || '/' || CAST(v.name AS TEXT) END AS path,
  v.size AS size, v.mtime_ns AS mtime_ns,
  CASE v.mode >> 12 WHEN 8 THEN 'file' WHEN 4 THEN 'dir' WHEN 10 THEN 'symlink' WHEN 1 THEN 'fifo' WHEN 12 THEN 'socket'
    WHEN 2 THEN 'char_device' WHEN 6 THEN 'block_device' END AS kind,
  CASE v.mode >> 12 WHEN 8 THEN lower(hex(c.hash)) END AS file_hash,
  v.first_run AS first_run, v.last_run AS last_run,
  v.mode & 4095 AS mode, o.uid AS uid, o.gid AS gid, v.flags & 1 AS inconsistent
FROM (SELECT dir, name, first_run, NULL AS last_run, mode, owner, size, mtime_ns, obj, flags FROM live
      UNION ALL SELECT dir, name, first_run, last_run, mode, owner, size, mtime_ns, obj, flags FROM past) v
JOIN dirs d ON d.id = v.dir JOIN sources s ON s.id = d.source JOIN owners o ON o.id = v.owner
LEFT JOIN contents c ON v.mode >> 12 = 8 AND c.id = v.obj;

CREATE VIEW files AS SELECT * FROM file_versions WHERE last_run IS NULL;
