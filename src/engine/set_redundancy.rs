//! `set-redundancy`: on how many volumes every block is to lie from now on.

use super::error::Result;
use super::observer::Observer;
use super::recover;
use super::repository::Repository;
use crate::catalog::redundancy::{self, Scope, Want};
use crate::catalog::settings;
use crate::model::redundancy::Redundancy;

/// What changed, and what is to be done.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct SetRedundancyReport {
    /// The policy until now.
    pub before: Redundancy,
    /// The policy from now on.
    pub redundancy: Redundancy,
    /// Blocks that lie on fewer volumes than it wants.
    pub blocks_under_protected: u64,
    /// Bytes of the copies that they lack.
    pub bytes_missing: u64,
}

/// Sets the policy in the catalog; the next run's record tells it to the volumes. What is stored stays as it is until
/// `protect`.
pub fn set_redundancy(
    repository: &mut Repository,
    policy: Redundancy,
    observer: &dyn Observer,
) -> Result<SetRedundancyReport> {
    // The record of a run that the catalog does not have must not bring an older policy back later.
    recover::catch_up(repository, observer)?.iter().for_each(|problem| observer.warn(problem));
    let before = settings::redundancy(repository.catalog.conn())?;
    settings::set_redundancy(repository.catalog.conn(), policy)?;
    let conn = repository.catalog.conn();
    let left = redundancy::shortfall(conn, &Want::of(conn, policy, Scope::All)?)?;
    Ok(SetRedundancyReport {
        before,
        redundancy: policy,
        blocks_under_protected: left.blocks,
        bytes_missing: left.missing_bytes,
    })
}
