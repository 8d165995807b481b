//! `volumes`: every volume that the catalog knows, here or away.

use super::error::Result;
use super::repository::Repository;
use crate::catalog::volumes::{self, VolumeRow, VolumeState};
use crate::model::ids::{RunSeq, VolumeUuid};
use crate::volume::store::Space;

/// Where a volume stands, as a person sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeStanding {
    /// Takes blocks.
    Active,
    /// Reached its reserve.
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
}

/// All volumes in the order in which they were added.
pub fn volumes(repository: &Repository) -> Result<Vec<VolumeSummary>> {
    let mut all = Vec::new();
    for mounted in &repository.mounted {
        let state = match mounted.row.state {
            VolumeState::Active => VolumeStanding::Active,
            VolumeState::Sealed => VolumeStanding::Sealed,
            VolumeState::Readonly => VolumeStanding::Readonly,
            VolumeState::Lost => VolumeStanding::Lost,
        };
        // A disk that does not answer is still a volume to list.
        let space = mounted.store().space().ok();
        let mut summary = summary(repository, &mounted.row, (state, space))?;
        summary.path = Some(mounted.volume.root.display().to_string());
        all.push((mounted.row.id, summary));
    }
    for row in &repository.away {
        let state = if row.state == VolumeState::Lost { VolumeStanding::Lost } else { VolumeStanding::Offline };
        all.push((row.id, summary(repository, row, (state, None))?));
    }
    all.sort_by_key(|(id, _)| *id);
    Ok(all.into_iter().map(|(_, summary)| summary).collect())
}

fn summary(
    repository: &Repository,
    row: &VolumeRow,
    (state, space): (VolumeStanding, Option<Space>),
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::test_repo::{Node, TestRepo};

    #[test]
    fn a_volume_that_is_away_is_listed_as_offline_with_what_it_holds() {
        let mut repo = TestRepo::new();
        repo.run(&[("a", Node::bytes(b"1"))]);
        repo.add_volume("second");
        repo.take_away("first");
        let listed = volumes(&repo.repository).unwrap();
        let seen: Vec<_> = listed.iter().map(|row| (row.name.as_str(), row.state, row.blocks)).collect();
        assert_eq!(seen, [("first", VolumeStanding::Offline, 1), ("second", VolumeStanding::Active, 0)]);
        assert!(listed[0].size.is_none() && listed[1].size.is_some() && listed[0].stored > 0);
    }
}
