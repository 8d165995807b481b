//! The records of runs that lie on the volumes, and which of them the chain of states leads to.

use crate::engine::manifest_apply::read_meta;
use crate::engine::manifest_file::ManifestReader;
use crate::format::layout::{self, ManifestCopy};
use crate::format::manifest::ManifestMeta;
use crate::model::ids::{RepositoryUuid, RunSeq, RunUuid, StateDigest, VolumeId};
use crate::volume::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Manifests by run, each with the places where it lies.
pub type Manifests = BTreeMap<RunKey, Vec<(VolumeId, String, ManifestCopy)>>;

/// What names a run's record.
pub type RunKey = (RunSeq, RunUuid);

/// Adds a manifest's place. Deltas come before full ones: they know which versions a run really changed.
pub fn put_manifest(found: &mut Manifests, volume: VolumeId, key: &str) {
    let Some((seq, uuid, copy)) = layout::parse_manifest_key(key) else { return };
    let places = found.entry((seq, uuid)).or_default();
    places.push((volume, key.to_owned(), copy));
    places.sort_by_key(|(_, _, copy)| *copy);
}

/// The head of a manifest, as far as the chain of states needs it.
struct Link {
    key: RunKey,
    meta: ManifestMeta,
    has_full: bool,
}

/// Takes out runs that the later runs of their source do not go on from: a catalog that could not see their manifest,
/// because its volume was away, gave them up or never knew of them. One of the two branches can be brought in; it is
/// the one that the newest run is on. Returns the runs that were taken out, each with the run that passed it over.
/// A run that goes on from no state at all, neither of another manifest nor one of `known`, passes over nothing.
/// `store` tells where a volume is.
pub fn take_out_passed_over(
    manifests: &mut Manifests,
    (repository, known): (RepositoryUuid, &BTreeSet<StateDigest>),
    store: &dyn Fn(VolumeId) -> Option<Arc<dyn Store>>,
) -> Vec<(RunSeq, RunKey)> {
    let mut by_source: BTreeMap<(String, String), Vec<Link>> = BTreeMap::new();
    for (key, places) in manifests.iter() {
        let mut metas =
            places.iter().filter_map(|(volume, name, _)| head_of(store(*volume)?.as_ref(), name, repository));
        // What cannot be read in any place says nothing of other runs.
        let Some(meta) = metas.next() else { continue };
        let has_full = places.iter().any(|(_, _, copy)| *copy == ManifestCopy::Full);
        let source = (meta.source.host.clone(), meta.source.name.clone());
        by_source.entry(source).or_default().push(Link { key: *key, meta, has_full });
    }
    let mut passed_over = Vec::new();
    for links in by_source.values() {
        let reached = reached(links, known);
        let mut later: Option<&Link> = None;
        for link in links.iter().rev() {
            let by = later.filter(|later| {
                !later.has_full && later.meta.prev < Some(link.key.0.0) && later.meta.base != link.meta.result
            });
            match by {
                Some(by) => {
                    manifests.remove(&link.key);
                    passed_over.push((link.key.0, by.key));
                }
                None if reached.contains(&link.key) => later = Some(link),
                None => {}
            }
        }
    }
    passed_over
}

/// The runs that a chain of records leads to, from the empty state, from `known` ones or from a full record.
fn reached(links: &[Link], known: &BTreeSet<StateDigest>) -> BTreeSet<RunKey> {
    let mut states = known.clone();
    states.insert(StateDigest::EMPTY);
    let mut reached = BTreeSet::new();
    for link in links {
        if link.has_full || states.contains(&link.meta.base) {
            states.insert(link.meta.result);
            reached.insert(link.key);
        }
    }
    reached
}

fn head_of(store: &dyn Store, key: &str, repository: RepositoryUuid) -> Option<ManifestMeta> {
    let object = store.open(key).ok()?;
    let (mut reader, _) = ManifestReader::open(object.as_ref(), Some(repository)).ok()?;
    read_meta(&mut reader).ok()
}
