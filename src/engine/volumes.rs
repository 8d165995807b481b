//! `volumes`: every volume that the catalog knows, here or away.

use super::backup::is_full;
use super::error::{EngineError, Result};
use super::repository::Repository;
use crate::catalog::damage::ContentUser;
use crate::catalog::sums::{self, Verification};
use crate::catalog::volumes::{self, VolumeRow, VolumeState};
use crate::catalog::{losses, runs};
use crate::model::ids::{RunSeq, VolumeId, VolumeUuid};
use crate::volume::store::Space;

/// Where a volume stands, as a person sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeStanding {
    /// Takes blocks.
    Active,
    /// Reached its reserve: it takes no block.
    Sealed,
    /// Only read.
    Readonly,
    /// Given up by its owner.
    Lost,
    /// Not mounted where it was.
    Offline,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct VolumeSummary {
    /// Name for people.
    pub name: String,
    /// Identity.
    pub uuid: VolumeUuid,
    /// Where it stands.
    pub state: VolumeStanding,
    /// Where it is, or was seen last.
    pub path: Option<String>,
    /// Bytes of its file system; `None` while it is away.
    pub size: Option<u64>,
    /// Bytes free there.
    pub free: Option<u64>,
    /// Bytes that it keeps free.
    pub reserve: Option<u64>,
    /// Blocks that the catalog knows on it.
    pub blocks: u64,
    /// Their bytes.
    pub stored: u64,
    /// Newest run whose record it is known to hold.
    pub last_run: Option<RunSeq>,
    /// When its blocks were verified; nothing is due here.
    pub verification: Verification,
}

impl VolumeStanding {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Sealed => "sealed",
            Self::Readonly => "readonly",
            Self::Lost => "lost",
            Self::Offline => "offline",
        }
    }
}

impl VolumeSummary {
    /// Bytes that it can take above its reserve; `None` while it is away.
    pub fn room(&self) -> Option<u64> {
        self.free.map(|free| free.saturating_sub(self.reserve.unwrap_or(0)))
    }
}

/// All volumes in the order in which they were added.
pub fn volumes(repository: &Repository) -> Result<Vec<VolumeSummary>> {
    volumes_since(repository, i64::MIN)
}

/// The same, with what was neither verified nor written since `since_ns` as due.
pub(super) fn volumes_since(repository: &Repository, since_ns: i64) -> Result<Vec<VolumeSummary>> {
    let mut all = Vec::new();
    for mounted in &repository.mounted {
        // A disk that does not answer is still a volume to list.
        let space = mounted.store().space().ok();
        let state = standing(&mounted.row, space, repository.settings().block_size);
        let mut summary = summary(repository, &mounted.row, (state, space), since_ns)?;
        summary.path = Some(mounted.volume.root.display().to_string());
        all.push((mounted.row.id, summary));
    }
    for row in &repository.away {
        let state = if row.state == VolumeState::Lost { VolumeStanding::Lost } else { VolumeStanding::Offline };
        all.push((row.id, summary(repository, row, (state, None), since_ns)?));
    }
    all.sort_by_key(|(id, _)| *id);
    Ok(all.into_iter().map(|(_, summary)| summary).collect())
}

/// The mark of a full volume is the last backup's. Where the space is known, what the next one would do counts.
fn standing(row: &VolumeRow, space: Option<Space>, block_size: u64) -> VolumeStanding {
    let room = space.map(|space| space.free_bytes.saturating_sub(row.reserve.bytes_of(space.total_bytes)));
    match (row.state, room) {
        (VolumeState::Readonly, _) => VolumeStanding::Readonly,
        (VolumeState::Lost | VolumeState::Removed, _) => VolumeStanding::Lost,
        (state, Some(room)) if is_full(state, room, block_size) => VolumeStanding::Sealed,
        (VolumeState::Sealed, None) => VolumeStanding::Sealed,
        (VolumeState::Active | VolumeState::Sealed, _) => VolumeStanding::Active,
    }
}

fn summary(
    repository: &Repository,
    row: &VolumeRow,
    (state, space): (VolumeStanding, Option<Space>),
    since_ns: i64,
) -> Result<VolumeSummary> {
    let holdings = volumes::holdings(repository.catalog.conn(), row.id)?;
    Ok(VolumeSummary {
        name: row.name.clone(),
        uuid: row.uuid,
        state,
        path: row.path.as_ref().map(|path| path.display().to_string()),
        size: space.map(|space| space.total_bytes),
        free: space.map(|space| space.free_bytes),
        reserve: space.map(|space| row.reserve.bytes_of(space.total_bytes)),
        blocks: holdings.blocks,
        stored: holdings.bytes,
        last_run: row.last_seq,
        verification: sums::verification(repository.catalog.conn(), row.id, since_ns)?,
    })
}

/// How much would be gone without some volumes.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct LossReport {
    /// Names of the volumes.
    pub volumes: Vec<String>,
    /// File versions that would be gone.
    pub file_versions: u64,
    /// Those of them that are in the newest run of their source.
    pub in_newest_runs: u64,
    /// Sizes of the latter.
    pub newest_bytes: u64,
}

/// One file version that would be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostVersion {
    /// `host:name`.
    pub source: String,
    /// Path inside the source.
    pub path: Vec<u8>,
    /// Bytes of the file.
    pub size: u64,
    /// First run that saw it.
    pub first_run: RunSeq,
    /// Last run that saw it; `None` while it is in the newest.
    pub last_run: Option<RunSeq>,
}

/// Hands every file version to `each` that needs bytes which lie on none but these volumes, as they are found. Volumes
/// are named by name or identity.
pub fn lost_without(
    repository: &Repository,
    names: &[String],
    each: &mut dyn FnMut(&LostVersion),
) -> Result<LossReport> {
    let conn = repository.catalog.conn();
    let rows = volumes::all(conn)?;
    let found: Vec<&VolumeRow> = names.iter().map(|name| named(&rows, name)).collect::<Result<_>>()?;
    let ids: Vec<VolumeId> = found.iter().map(|row| row.id).collect();
    let sources = runs::sources(conn)?;
    let mut report =
        LossReport { volumes: found.iter().map(|row| row.name.clone()).collect(), ..LossReport::default() };
    losses::for_each_lost(conn, &ids, &mut |user: ContentUser| {
        let source = sources.iter().find(|source| source.id == user.source);
        let version = LostVersion {
            source: source.map(super::select::source_words).unwrap_or_default(),
            path: user.path,
            size: user.version.size,
            first_run: RunSeq(user.first_run),
            last_run: user.last_run.map(RunSeq),
        };
        report.file_versions += 1;
        if version.last_run.is_none() {
            report.in_newest_runs += 1;
            report.newest_bytes = report.newest_bytes.saturating_add(version.size);
        }
        each(&version);
        Ok(())
    })?;
    Ok(report)
}

/// The volume of this name or identity.
pub(super) fn named<'r>(rows: &'r [VolumeRow], name: &str) -> Result<&'r VolumeRow> {
    let found = rows.iter().find(|row| row.name == name || row.uuid.to_string() == name);
    found.ok_or_else(|| {
        EngineError::Usage(format!("there is no volume `{}`; `raidtape volumes` lists all", name.escape_debug()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::blocks;
    use crate::engine::test_repo::{Node, TestRepo};
    use crate::model::params::Reserve;

    #[test]
    fn a_volume_that_is_away_is_listed_as_offline_with_what_it_holds() {
        let mut repo = TestRepo::new();
        let run = repo.run(&[("a", Node::bytes(b"1"))]);
        blocks::mark_listed(repo.repository.catalog.conn(), run).unwrap();
        repo.add_volume("second");
        repo.take_away("first");
        let listed = volumes(&repo.repository).unwrap();
        let seen: Vec<_> = listed.iter().map(|row| (row.name.as_str(), row.state, row.blocks)).collect();
        assert_eq!(seen, [("first", VolumeStanding::Offline, 1), ("second", VolumeStanding::Active, 0)]);
        assert!(listed[0].size.is_none() && listed[1].size.is_some() && listed[0].stored > 0);
        let verified = listed[0].verification;
        assert_eq!((verified.bytes, verified.never_bytes, verified.due_bytes), (listed[0].stored, listed[0].stored, 0));
        // Written at the time of the run, which is before this.
        let listed = volumes_since(&repo.repository, i64::MAX).unwrap();
        assert_eq!(listed[0].verification.due_bytes, listed[0].stored);
    }

    #[test]
    fn a_volume_is_full_when_the_next_backup_would_find_it_full() {
        const MIB: u64 = 1 << 20;
        let repo = TestRepo::new();
        let row =
            |state| VolumeRow { state, reserve: Reserve::Bytes(100 * MIB), ..repo.repository.mounted[0].row.clone() };
        let space = |room: u64| Some(Space { total_bytes: 1 << 40, free_bytes: 100 * MIB + room });
        let of = |state, space| standing(&row(state), space, 64 * MIB);
        let seen = [8 * MIB - 1, 8 * MIB, 64 * MIB, 64 * MIB + 1]
            .map(|room| (of(VolumeState::Active, space(room)), of(VolumeState::Sealed, space(room))));
        let (active, sealed) = (VolumeStanding::Active, VolumeStanding::Sealed);
        assert_eq!(seen, [(sealed, sealed), (active, sealed), (active, sealed), (active, active)]);
        assert_eq!((of(VolumeState::Active, None), of(VolumeState::Sealed, None)), (active, sealed));
        assert_eq!(of(VolumeState::Readonly, space(0)), VolumeStanding::Readonly);
    }

    #[test]
    fn what_a_lost_volume_takes_with_it_is_what_lies_nowhere_else() {
        let mut repo = TestRepo::new();
        repo.run(&[("a", Node::bytes(b"first a")), ("b", Node::bytes(b"first b"))]);
        repo.add_volume("second");
        repo.use_volume("second");
        // A copy of known bytes lies where those lie.
        repo.run(&[("b", Node::bytes(b"second b")), ("copy", Node::bytes(b"first a"))]);
        let lost = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut seen = Vec::new();
            let report = lost_without(&repo.repository, &names, &mut |version| {
                seen.push((String::from_utf8(version.path.clone()).unwrap(), version.last_run.map(|run| run.0)));
            });
            report.map(|report| (report.file_versions, report.in_newest_runs, seen))
        };
        let entry = |path: &str, last: Option<i64>| (path.to_owned(), last);
        let first = vec![entry("a", None), entry("copy", None), entry("b", Some(1))];
        assert_eq!(lost(&["first"]).unwrap(), (3, 2, first));
        assert_eq!(lost(&["second"]).unwrap(), (1, 1, vec![entry("b", None)]));
        assert_eq!(lost(&["first", "second"]).unwrap().0, 4);
        assert!(lost(&["third"]).is_err());
    }

    #[test]
    fn a_copy_elsewhere_keeps_what_would_be_lost() {
        let mut repo = TestRepo::new();
        repo.run(&[("a", Node::bytes(b"bytes of a"))]);
        repo.add_volume("second");
        repo.copy_block(b"bytes of a", "second");
        let lost = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            lost_without(&repo.repository, &names, &mut |_| {}).unwrap().file_versions
        };
        assert_eq!((lost(&["first"]), lost(&["second"]), lost(&["first", "second"])), (0, 0, 1));
    }
}
