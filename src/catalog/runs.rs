//! Sources and runs: numbers, states, counts.

use super::error::{CatalogError, Result};
use crate::format::manifest::{ManifestMeta, RunCounts};
use crate::model::ids::{RunSeq, RunUuid, SourceId, StateDigest};
use crate::model::problem::Problem;
use crate::model::run_marks::RunMarks;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// A source.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Source {
    /// Its row.
    pub id: SourceId,
    /// Host name.
    pub host: String,
    /// Name, by default the absolute path.
    pub name: String,
    /// Absolute paths of its roots.
    pub roots: Vec<String>,
}

/// State of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Under way, or left by a crash.
    Open,
    /// Saved.
    Complete,
    /// Given up; its number stays taken.
    Aborted,
    /// Forgotten by retention.
    Forgotten,
    /// Known to have been, but no manifest that was found leads to it.
    Unreachable,
}

impl RunState {
    const ALL: [Self; 5] = [Self::Open, Self::Complete, Self::Aborted, Self::Forgotten, Self::Unreachable];

    /// The word in the table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Complete => "complete",
            Self::Aborted => "aborted",
            Self::Forgotten => "forgotten",
            Self::Unreachable => "unreachable",
        }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Number.
    pub seq: RunSeq,
    /// Identity.
    pub uuid: RunUuid,
    /// What was backed up.
    pub source: SourceId,
    /// Where it stands.
    pub state: RunState,
    /// The complete run before it of the same source.
    pub prev: Option<RunSeq>,
    /// When it began, nanoseconds since 1970.
    pub started_ns: i64,
    /// When its source was read to the end.
    pub ended_ns: Option<i64>,
    /// Digest of the state after it.
    pub digest: Option<StateDigest>,
    /// Digest of its manifest's bytes.
    pub manifest: Option<[u8; 32]>,
    /// Its counts.
    pub counts: RunCounts,
    /// What its maker called it.
    pub marks: RunMarks,
}

const RUN_COLUMNS: &str = "seq, uuid, source, state, prev, started_ns, ended_ns, digest, manifest, added, modified,
     metadata, deleted, unchanged, problems, bytes_total, bytes_read, bytes_new, bytes_stored, label,
     tags";

fn run_from_row(row: &Row<'_>) -> Result<Run> {
    let state: String = row.get(3)?;
    let count = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok(Run {
        seq: RunSeq(row.get(0)?),
        uuid: RunUuid(row.get(1)?),
        source: SourceId(row.get(2)?),
        state: RunState::ALL
            .into_iter()
            .find(|known| known.word() == state)
            .ok_or_else(|| CatalogError::damaged("a run in an unknown state"))?,
        prev: row.get::<_, Option<i64>>(4)?.map(RunSeq),
        started_ns: row.get(5)?,
        ended_ns: row.get(6)?,
        digest: row.get::<_, Option<[u8; 32]>>(7)?.map(StateDigest),
        manifest: row.get(8)?,
        counts: RunCounts {
            added: count(9)?,
            modified: count(10)?,
            metadata: count(11)?,
            deleted: count(12)?,
            unchanged: count(13)?,
            problems: count(14)?,
            bytes_total: count(15)?,
            bytes_read: count(16)?,
            bytes_new: count(17)?,
            bytes_stored: count(18)?,
        },
        marks: RunMarks { label: row.get(19)?, tags: tags_of(row.get::<_, Option<String>>(20)?.as_deref()) },
    })
}

/// Column `tags`: one behind the other with commas between them, which no tag has.
fn tags_words(tags: &[String]) -> Option<String> {
    (!tags.is_empty()).then(|| tags.join(","))
}

fn tags_of(words: Option<&str>) -> Vec<String> {
    words.map(|words| words.split(',').map(str::to_owned).collect()).unwrap_or_default()
}

fn select_runs(conn: &Connection, rest: &str, values: impl rusqlite::Params) -> Result<Vec<Run>> {
    let mut select = conn.prepare_cached(&format!("SELECT {RUN_COLUMNS} FROM runs {rest}"))?;
    let mut rows = select.query(values)?;
    let mut runs = Vec::new();
    while let Some(row) = rows.next()? {
        runs.push(run_from_row(row)?);
    }
    Ok(runs)
}

/// All runs by number.
pub fn all(conn: &Connection) -> Result<Vec<Run>> {
    select_runs(conn, "ORDER BY seq", [])
}

/// The run with this number.
pub fn get(conn: &Connection, seq: RunSeq) -> Result<Option<Run>> {
    Ok(select_runs(conn, "WHERE seq = ?1", [seq.0])?.pop())
}

/// The newest complete run of a source.
pub fn newest_complete(conn: &Connection, source: SourceId) -> Result<Option<Run>> {
    Ok(select_runs(conn, "WHERE source = ?1 AND state = 'complete' ORDER BY seq DESC LIMIT 1", [source.0])?.pop())
}

/// The complete run of a source that has `back` complete ones behind it.
pub fn nth_newest_complete(conn: &Connection, source: SourceId, back: u32) -> Result<Option<Run>> {
    let rest = "WHERE source = ?1 AND state = 'complete' ORDER BY seq DESC LIMIT 1 OFFSET ?2";
    Ok(select_runs(conn, rest, params![source.0, back])?.pop())
}

/// The newest complete run of a source that began before an instant.
pub fn newest_complete_before(conn: &Connection, source: SourceId, before_ns: i64) -> Result<Option<Run>> {
    let rest = "WHERE source = ?1 AND state = 'complete' AND started_ns < ?2 ORDER BY seq DESC LIMIT 1";
    Ok(select_runs(conn, rest, params![source.0, before_ns])?.pop())
}

/// The first complete run of a source.
pub fn oldest_complete(conn: &Connection, source: SourceId) -> Result<Option<Run>> {
    Ok(select_runs(conn, "WHERE source = ?1 AND state = 'complete' ORDER BY seq LIMIT 1", [source.0])?.pop())
}

/// How many complete runs a source has.
pub fn count_complete(conn: &Connection, source: SourceId) -> Result<u64> {
    let sql = "SELECT count(*) FROM runs WHERE source = ?1 AND state = 'complete'";
    Ok(conn.query_row(sql, [source.0], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)?)
}

/// Runs that a crash left open.
pub fn open_ones(conn: &Connection) -> Result<Vec<Run>> {
    select_runs(conn, "WHERE state = 'open' ORDER BY seq", [])
}

/// All sources by number.
pub fn sources(conn: &Connection) -> Result<Vec<Source>> {
    let mut select = conn.prepare_cached("SELECT id, host, name, roots FROM sources ORDER BY id")?;
    let rows = select.query_map([], |row| {
        let roots: String = row.get(3)?;
        Ok(Source {
            id: SourceId(row.get(0)?),
            host: row.get(1)?,
            name: row.get(2)?,
            roots: serde_json::from_str(&roots).unwrap_or_default(),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The source with this host and name, made when it is new; its roots are brought up to date.
pub fn intern_source(conn: &Connection, host: &str, name: &str, roots: &[String]) -> Result<SourceId> {
    let roots = serde_json::to_string(roots).unwrap_or_default();
    conn.execute(
        "INSERT INTO sources(host, name, roots) VALUES(?1, ?2, ?3)
         ON CONFLICT(host, name) DO UPDATE SET roots = excluded.roots",
        params![host, name, roots],
    )?;
    Ok(conn.query_row("SELECT id FROM sources WHERE host = ?1 AND name = ?2", [host, name], |row| {
        row.get(0).map(SourceId)
    })?)
}

/// The next free run number.
pub fn next_seq(conn: &Connection) -> Result<RunSeq> {
    let floor: i64 = conn
        .query_row("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'run_floor'", [], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    let last: i64 = conn.query_row("SELECT coalesce(max(seq), 0) FROM runs", [], |row| row.get(0))?;
    let next = last.max(floor).checked_add(1).filter(|next| *next < i64::MAX / 2);
    next.map(RunSeq).ok_or_else(|| CatalogError::damaged("no run number is left"))
}

/// Makes numbers up to `floor` taken, so that a volume that returns cannot bring a second run of the same number.
pub fn set_floor(conn: &Connection, floor: RunSeq) -> Result<()> {
    conn.execute(
        "INSERT INTO meta(key, value) VALUES('run_floor', ?1) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
        [floor.0],
    )?;
    Ok(())
}

/// Adds a run in state `open`.
pub fn insert_open(conn: &Connection, run: &Run) -> Result<()> {
    conn.execute(
        "INSERT INTO runs(seq, uuid, source, kind, state, prev, started_ns, label, tags)
         VALUES(?1, ?2, ?3, 'backup', 'open', ?4, ?5, ?6, ?7)",
        params![
            run.seq.0,
            run.uuid.0,
            run.source.0,
            run.prev.map(|prev| prev.0),
            run.started_ns,
            run.marks.label,
            tags_words(&run.marks.tags),
        ],
    )?;
    Ok(())
}

/// Sets a run's state alone.
pub fn set_state(conn: &Connection, seq: RunSeq, state: RunState) -> Result<()> {
    conn.execute("UPDATE runs SET state = ?2 WHERE seq = ?1", params![seq.0, state.word()])?;
    Ok(())
}

/// Makes a run complete with its digest, manifest, counts, label and tags.
pub fn complete(conn: &Connection, run: &Run) -> Result<()> {
    let counts = &run.counts;
    conn.execute(
        "UPDATE runs SET state = 'complete', ended_ns = ?2, digest = ?3, manifest = ?4, added = ?5, modified = ?6,
         metadata = ?7, deleted = ?8, unchanged = ?9, problems = ?10, bytes_total = ?11, bytes_read = ?12,
         bytes_new = ?13, bytes_stored = ?14, prev = ?15, label = ?16, tags = ?17 WHERE seq = ?1",
        params![
            run.seq.0,
            run.ended_ns,
            run.digest.map(|digest| digest.0),
            run.manifest,
            counts.added.cast_signed(),
            counts.modified.cast_signed(),
            counts.metadata.cast_signed(),
            counts.deleted.cast_signed(),
            counts.unchanged.cast_signed(),
            counts.problems.cast_signed(),
            counts.bytes_total.cast_signed(),
            counts.bytes_read.cast_signed(),
            counts.bytes_new.cast_signed(),
            counts.bytes_stored.cast_signed(),
            run.prev.map(|prev| prev.0),
            run.marks.label,
            tags_words(&run.marks.tags),
        ],
    )?;
    Ok(())
}

/// What a run was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Whether what the source has and the run has not may have been left out on purpose.
    pub selected: bool,
    /// Absolute paths of its roots; none for a stream.
    pub roots: Vec<String>,
}

/// Keeps what a run was asked for.
pub fn set_asked(conn: &Connection, seq: RunSeq, asked: &Asked) -> Result<()> {
    let roots = serde_json::to_string(&asked.roots).unwrap_or_default();
    conn.execute("UPDATE runs SET selected = ?2, roots = ?3 WHERE seq = ?1", params![seq.0, asked.selected, roots])?;
    Ok(())
}

/// Keeps what a run was asked for as its record has it.
pub fn set_asked_by(conn: &Connection, meta: &ManifestMeta) -> Result<()> {
    let Some(selected) = meta.selected else { return Ok(()) };
    set_asked(conn, meta.run_seq(), &Asked { selected, roots: meta.source.roots.clone() })
}

/// What a run was asked for; `None` when that is not known, as of runs of earlier releases.
pub fn asked(conn: &Connection, seq: RunSeq) -> Result<Option<Asked>> {
    // A catalog that no writer has brought to schema 2 yet.
    let is_kept: bool =
        conn.query_row("SELECT count(*) > 0 FROM pragma_table_info('runs') WHERE name = 'selected'", [], |row| {
            row.get(0)
        })?;
    if !is_kept {
        return Ok(None);
    }
    let row: Option<(Option<bool>, Option<String>)> = conn
        .query_row("SELECT selected, roots FROM runs WHERE seq = ?1", [seq.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((Some(selected), Some(roots))) = row else { return Ok(None) };
    let roots = serde_json::from_str(&roots).map_err(|_| CatalogError::damaged("roots of a run"))?;
    Ok(Some(Asked { selected, roots }))
}

/// Paths of a run's source that could not be looked at or read, and so may be missing from it, in no order; `None` when
/// the catalog does not know all of them, after a rebuild.
pub fn unread_paths(conn: &Connection, run: &Run) -> Result<Option<Vec<Vec<u8>>>> {
    let known: i64 = conn.query_row("SELECT count(*) FROM problems WHERE run = ?1", [run.seq.0], |row| row.get(0))?;
    if known.cast_unsigned() < run.counts.problems {
        return Ok(None);
    }
    let mut select = conn.prepare("SELECT path FROM problems WHERE run = ?1")?;
    let paths = select.query_map([run.seq.0], |row| row.get(0))?;
    Ok(Some(paths.collect::<rusqlite::Result<_>>()?))
}

/// Keeps the problems of a run.
pub fn put_problems(conn: &Connection, seq: RunSeq, problems: &[Problem]) -> Result<()> {
    let mut put = conn.prepare_cached("INSERT INTO problems(run, path, op, errno, text) VALUES(?1, ?2, ?3, ?4, ?5)")?;
    for problem in problems {
        let op = serde_json::to_value(problem.op).ok().and_then(|op| op.as_str().map(str::to_owned));
        put.execute(params![seq.0, problem.path, op.unwrap_or_default(), problem.errno, problem.text])?;
    }
    Ok(())
}

/// How much a catalog knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Complete runs.
    pub runs: u64,
    /// Sources.
    pub sources: u64,
    /// Versions, live and past.
    pub file_versions: u64,
    /// Chunks.
    pub chunks: u64,
    /// Blocks.
    pub blocks: u64,
}

/// Counts everything.
pub fn totals(conn: &Connection) -> Result<Totals> {
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0).map(i64::cast_unsigned));
    Ok(Totals {
        runs: count("SELECT count(*) FROM runs WHERE state = 'complete'")?,
        sources: count("SELECT count(*) FROM sources")?,
        file_versions: count("SELECT (SELECT count(*) FROM live) + (SELECT count(*) FROM past)")?,
        chunks: count("SELECT count(*) FROM chunks")?,
        blocks: count("SELECT count(*) FROM blocks WHERE kind <> 3 AND state <> 'gone'")?,
    })
}

/// Keeps the length of a run's manifest, which tells when a full one is due.
pub fn set_manifest_bytes(conn: &Connection, seq: RunSeq, bytes: u64) -> Result<()> {
    conn.execute("UPDATE runs SET manifest_bytes = ?2 WHERE seq = ?1", params![seq.0, bytes.cast_signed()])?;
    Ok(())
}

/// Keeps the length of a run's full manifest.
pub fn set_full_bytes(conn: &Connection, seq: RunSeq, bytes: u64) -> Result<()> {
    conn.execute("UPDATE runs SET full_bytes = ?2 WHERE seq = ?1", params![seq.0, bytes.cast_signed()])?;
    Ok(())
}

/// Whether the deltas of a source since its newest full manifest outweigh that one. The first run of a source is both.
pub fn is_full_due(conn: &Connection, source: SourceId) -> Result<bool> {
    Ok(conn
        .query_row(
            "WITH complete AS (SELECT * FROM runs WHERE source = ?1 AND state = 'complete'),
              base AS (SELECT seq, coalesce(full_bytes, manifest_bytes) AS bytes FROM complete
                       WHERE full_bytes IS NOT NULL OR prev IS NULL ORDER BY seq DESC LIMIT 1)
         SELECT coalesce((SELECT sum(c.manifest_bytes) FROM complete c WHERE c.seq > b.seq), 0)
                > coalesce(b.bytes, 0) FROM base b",
            [source.0],
            |row| row.get(0),
        )
        .optional()?
        .unwrap_or(true))
}
