//! From what holds bytes to the versions that are made of them.

use super::Placed;
use crate::catalog::damage::{self, ContentUser};
use crate::catalog::{CatalogError, Connection, holders, volumes};
use crate::engine::error::{EngineError, Result};
use crate::engine::repository::Repository;
use crate::model::hex_prefix::HexPrefix;
use crate::model::ids::{BlockNo, ContentId, RunSeq, VolumeId};

/// Versions of one content that are taken from the catalog at once; of one with more they come as a stream.
const USERS_MAX: usize = 1 << 12;

/// Words of 64 contents each that are remembered.
const SEEN_WORDS_MAX: usize = 1 << 24;

/// What holds bytes of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Files with this hash.
    Hash(HexPrefix),
    /// A chunk, by its id.
    Chunk(HexPrefix),
    /// A block, by its name.
    Block(HexPrefix),
    /// A volume, by name or UUID.
    Volume(String),
}

/// Hands every version that has to do with a holder to `each`, content by content; a content comes once.
pub(super) fn for_each_version(
    repository: &Repository,
    holder: &Holder,
    each: &mut dyn FnMut(Placed) -> Result<()>,
) -> Result<()> {
    let conn = repository.catalog.conn();
    let mut seen = Seen::default();
    let mut take = |contents: Vec<ContentId>| {
        let fresh = contents.into_iter().filter(|id| seen.is_new(*id)).collect::<Vec<_>>();
        fresh.into_iter().try_for_each(|content| users(repository, content, each))
    };
    match holder {
        Holder::Hash(prefix) => take(holders::contents_like(conn, prefix)?),
        Holder::Chunk(prefix) => {
            let found = holders::chunks_like(conn, prefix)?;
            the_one("chunk", prefix, found.iter().map(|(_, id)| id.to_string()))?;
            for (no, _) in found {
                take(damage::extents_with(conn, no, no)?.into_iter().map(|extent| extent.content).collect())?;
            }
            Ok(())
        }
        Holder::Block(prefix) => {
            let found = holders::blocks_like(conn, prefix)?;
            the_one("block", prefix, found.iter().map(|(_, id)| id.to_string()))?;
            found.into_iter().try_for_each(|(block, _)| in_block(conn, block, &mut take))
        }
        Holder::Volume(name) => {
            let blocks: Vec<BlockNo> = holders::blocks_on(conn, volume(repository, name)?)?;
            blocks.into_iter().try_for_each(|block| in_block(conn, block, &mut take))
        }
    }
}

/// Hands the contents that have bytes in a block to `take`, segment by segment.
fn in_block(conn: &Connection, block: BlockNo, take: &mut dyn FnMut(Vec<ContentId>) -> Result<()>) -> Result<()> {
    for segment in holders::segments_of(conn, block)? {
        for (first, last) in holders::chunks_in(conn, segment)? {
            take(damage::extents_with(conn, first, last)?.into_iter().map(|extent| extent.content).collect())?;
        }
    }
    Ok(())
}

/// Refuses a prefix of nothing, and of several things.
fn the_one(what: &str, prefix: &HexPrefix, names: impl Iterator<Item = String>) -> Result<()> {
    let mut names: Vec<String> = names.collect();
    names.dedup();
    match names.len() {
        0 => Err(EngineError::Usage(format!("there is no {what} whose name begins with {prefix}"))),
        1 => Ok(()),
        _ => Err(EngineError::Usage(format!("several {what}s begin with {prefix}: {}", names.join(", ")))),
    }
}

fn volume(repository: &Repository, name: &str) -> Result<VolumeId> {
    let all = volumes::all(repository.catalog.conn())?;
    let mut fitting = all.iter().filter(|row| row.name == name || row.uuid.to_string() == name);
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one.id),
        (Some(_), Some(_)) => Err(EngineError::Usage(format!("several volumes are called {name}; give the UUID"))),
        (None, _) => {
            let known: Vec<&str> = all.iter().map(|row| row.name.as_str()).collect();
            Err(EngineError::Usage(format!("there is no volume {name}; the volumes are: {}", known.join(", "))))
        }
    }
}

fn users(repository: &Repository, content: ContentId, each: &mut dyn FnMut(Placed) -> Result<()>) -> Result<()> {
    let conn = repository.catalog.conn();
    if let Some(users) = damage::users_up_to(conn, content, USERS_MAX)? {
        return users.into_iter().try_for_each(|user| each(placed(user)));
    }
    let mut failed = Ok(());
    damage::for_each_user(conn, content, &mut |user| {
        failed = each(placed(user));
        if failed.is_ok() { Ok(()) } else { Err(CatalogError::damaged("the search has ended")) }
    })
    .or_else(|error| if failed.is_err() { Ok(()) } else { Err(error) })?;
    failed
}

fn placed(user: ContentUser) -> Placed {
    let runs = (RunSeq(user.first_run), user.last_run.map(RunSeq));
    Placed { source: user.source, path: user.path, runs, version: user.version }
}

/// Which contents have come: a bit each, as their numbers are dense.
#[derive(Default)]
struct Seen(Vec<u64>);

impl Seen {
    fn is_new(&mut self, id: ContentId) -> bool {
        // 128 MiB for a billion contents at most; a larger number is likely that of a damaged row, and may come twice.
        let Ok(number) = u64::try_from(id.0) else { return true };
        let Some(word) = usize::try_from(number / 64).ok().filter(|word| *word < SEEN_WORDS_MAX) else { return true };
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let bit = 1 << (number % 64);
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_new_once_and_no_number_takes_all_memory() {
        let mut seen = Seen::default();
        for id in [1, 64, 63, 1000] {
            assert!(seen.is_new(ContentId(id)) && !seen.is_new(ContentId(id)), "{id}");
        }
        for id in [i64::MAX, -1, -63, i64::MIN] {
            assert!(seen.is_new(ContentId(id)), "{id}");
        }
        assert!(seen.0.len() < 32);
    }
}
