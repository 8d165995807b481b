//! `rebuild-catalog`: brings the catalog back from volumes alone. Reads labels, manifests, directory listings, each
//! volume's index, and the tables of blocks that no manifest lists; never a chunk.

use super::error::{EngineError, Result};
use super::manifest_apply::ApplyError;
use super::observer::{Expected, Observer, Phase};
use super::rebuild_blocks::compare_blocks;
use super::recover::{Manifests, RunKey, apply_one, put_manifest, take_out_passed_over};
use crate::catalog::handle::make_folder;
use crate::catalog::settings::{self, Doubt, Settings};
use crate::catalog::volumes::VolumeState;
use crate::catalog::{Catalog, damage, redundancy, replace, runs, volumes};
use crate::format::layout;
use crate::model::ids::{RunSeq, VolumeId};
use crate::model::params::Compression;
use crate::model::path::show;
use crate::volume::handle::{Volume, VolumeError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Paths that a report lists at most.
const LISTED_MAX: usize = 1000;
/// Run numbers that are passed over when a volume was not seen: it may hold runs of its own.
const RUNS_PASSED_OVER: i64 = 1000;

/// What to rebuild from.
#[derive(Debug, Clone, Default)]
pub struct RebuildOptions {
    /// Where volumes are mounted; the places that a catalog in place knows are tried too.
    pub volumes: Vec<PathBuf>,
}

/// What a rebuild brought back.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct RebuildReport {
    /// The catalog's path.
    pub catalog: String,
    /// Complete runs.
    pub runs: u64,
    /// Runs whose manifest was found and leads nowhere, with the reason.
    pub unreachable_runs: Vec<String>,
    /// Sources.
    pub sources: u64,
    /// Versions, live and past.
    pub file_versions: u64,
    /// Chunks.
    pub chunks: u64,
    /// Blocks.
    pub blocks: u64,
    /// Volumes that were read, by name.
    pub volumes_found: Vec<String>,
    /// Volumes that manifests know and that were not given, by name and identity.
    pub volumes_missing: Vec<String>,
    /// Versions that cannot be restored without those: `source: path (runs)`, the first 1,000.
    pub files_needing_missing: Vec<String>,
    /// How many there are.
    pub files_needing_missing_total: u64,
    /// Blocks that a manifest places on a volume that was read and that are not there.
    pub blocks_missing: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Where the catalog that was in place is now.
    pub kept_as: Option<String>,
    /// What else is worth knowing.
    pub warnings: Vec<String>,
    /// Seconds.
    pub duration_s: f64,
}

/// Builds a new catalog beside the old one and swaps it in when it is complete.
pub fn rebuild_catalog(path: &Path, options: &RebuildOptions, observer: &dyn Observer) -> Result<RebuildReport> {
    let began = Instant::now();
    make_folder(path)?;
    let _lock = Catalog::lock(path)?;
    let found = find_volumes(path, options)?;
    let report = rebuild_from(path, &found, observer)?;
    Ok(RebuildReport { duration_s: began.elapsed().as_secs_f64(), ..report })
}

/// The same from volumes that are open; the catalog's lock is held.
pub(super) fn rebuild_from(path: &Path, found: &[Volume], observer: &dyn Observer) -> Result<RebuildReport> {
    let mut report = RebuildReport { catalog: path.display().to_string(), ..RebuildReport::default() };
    report.volumes_found = found.iter().map(|volume| volume.label.name.clone()).collect();
    let mut misleading = BTreeSet::new();
    let (building, mut catalog, known) = loop {
        let building = replace::building_place(path)?;
        let mut catalog = Catalog::create(&building, &settings_of(&found[0]))?;
        let known = put_volumes(&mut catalog, found, &mut report)?;
        let count = misleading.len();
        apply_manifests(&mut catalog, (found, &known), (&mut report, &mut misleading), observer)?;
        if misleading.len() == count {
            break (building, catalog, known);
        }
        // A record for which others were passed over leads nowhere: once more, without it.
        report.unreachable_runs.clear();
        report.warnings.clear();
    };
    compare_blocks(&mut catalog, (found, &known), &mut report, observer)?;
    name_missing(&mut catalog, &known, &mut report)?;
    count(&catalog, &mut report)?;
    catalog.checkpoint()?;
    drop(catalog);
    report.kept_as = replace::swap_in(path, &building)?.map(|kept| kept.display().to_string());
    Ok(report)
}

/// The volumes that were given, and those that a catalog in place remembers; all of one repository.
fn find_volumes(path: &Path, options: &RebuildOptions) -> Result<Vec<Volume>> {
    let mut found: Vec<Volume> = Vec::new();
    for dir in &options.volumes {
        put_volume(&mut found, Volume::open(dir)?)?;
    }
    if path.exists() {
        for dir in remembered_places(path) {
            // What is not there now, or is something else, is simply not used.
            let Ok(volume) = Volume::open(&dir) else { continue };
            let is_ours = found.first().is_none_or(|first| first.label.repository == volume.label.repository);
            let is_new = !found.iter().any(|known| known.label.volume == volume.label.volume);
            if is_ours && is_new {
                found.push(volume);
            }
        }
    }
    if found.is_empty() {
        return Err(EngineError::Usage(
            "no volume to rebuild from; name where they are mounted: `raidtape rebuild-catalog --volume DIR`"
                .to_owned(),
        ));
    }
    Ok(found)
}

fn put_volume(found: &mut Vec<Volume>, volume: Volume) -> Result<()> {
    if let Some(first) = found.first()
        && first.label.repository != volume.label.repository
    {
        let (theirs, ours) = (volume.label.repository, first.label.repository);
        return Err(VolumeError::ForeignRepository { dir: volume.root, theirs, ours }.into());
    }
    if let Some(same) = found.iter().find(|known| known.label.volume == volume.label.volume) {
        return Err(EngineError::Usage(format!(
            "{} and {} both say that they are volume {} ({}); name only one of them",
            same.root.display(),
            volume.root.display(),
            volume.label.name,
            volume.label.volume
        )));
    }
    found.push(volume);
    Ok(())
}

/// Where a catalog, as damaged as it may be, remembers its volumes to be.
fn remembered_places(path: &Path) -> Vec<PathBuf> {
    let rows = Catalog::open(path).and_then(|catalog| volumes::all(catalog.conn()));
    rows.unwrap_or_default().into_iter().filter_map(|row| row.path).collect()
}

fn settings_of(volume: &Volume) -> Settings {
    let label = &volume.label;
    Settings {
        repository: label.repository,
        hash: label.hash,
        chunker: label.chunker,
        block_size: label.block_size,
        compression: Compression::Zstd(3),
        reserve: label.reserve,
        redundancy: label.redundancy,
    }
}

fn put_volumes(catalog: &mut Catalog, found: &[Volume], report: &mut RebuildReport) -> Result<Vec<VolumeId>> {
    let mut ids = Vec::new();
    for volume in found {
        let label = &volume.label;
        let id = volumes::put(catalog.conn(), (label.volume, &label.name), label.reserve)?;
        let place = std::path::absolute(&volume.root).unwrap_or_else(|_| volume.root.clone());
        volumes::set_path(catalog.conn(), id, &place)?;
        ids.push(id);
        report.bytes_read += label.encode().len() as u64;
    }
    Ok(ids)
}

/// Applies every run's manifest by number, each from the first place where it is sound. Runs for which others were
/// passed over, and which then could not be applied, are added to `misleading`; those that are in it pass over nothing.
fn apply_manifests(
    catalog: &mut Catalog,
    (found, ids): (&[Volume], &[VolumeId]),
    (report, misleading): (&mut RebuildReport, &mut BTreeSet<RunKey>),
    observer: &dyn Observer,
) -> Result<()> {
    let mut manifests = Manifests::new();
    for (volume, id) in found.iter().zip(ids) {
        let listed = volume.store().list(layout::RUNS, &mut |key, _| {
            put_manifest(&mut manifests, *id, key);
        });
        listed.map_err(EngineError::store(&volume.label.name))?;
    }
    let store_of = |id| ids.iter().position(|known| *known == id).map(|at| Arc::clone(found[at].store()));
    let repository = catalog.settings().repository;
    let mut apart: Manifests = manifests.extract_if(.., |key, _| misleading.contains(key)).collect();
    let mut followed = BTreeSet::new();
    for (run, by) in take_out_passed_over(&mut manifests, (repository, &BTreeSet::new()), &store_of) {
        report.unreachable_runs.push(format!("run {run}: run {} goes on from the state before it", by.0));
        followed.insert(by);
    }
    manifests.append(&mut apart);
    observer.begin(Phase::Rebuild, Expected { items: Some(manifests.len() as u64), bytes: None });
    let mut up_to_date: Vec<VolumeId> = ids.to_vec();
    for ((seq, uuid), places) in &manifests {
        if observer.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        let mut is_applied = false;
        let mut reasons = Vec::new();
        for (volume, key, _) in places {
            let Some(at) = ids.iter().position(|id| id == volume) else { continue };
            match apply_one(catalog, found[at].store().as_ref(), key, (*seq, *uuid)) {
                Ok(len) => {
                    report.bytes_read += len;
                    is_applied = true;
                    break;
                }
                Err(ApplyError::Catalog(error)) => return Err(error.into()),
                Err(error) => reasons.push(format!("{key} on {}: {error}", found[at].label.name)),
            }
        }
        if is_applied {
            // A volume that lacks a record is given it, and all later ones, by the next backup.
            up_to_date.retain(|id| places.iter().any(|(volume, _, _)| volume == id));
            for volume in &up_to_date {
                volumes::set_last_manifest(catalog.conn(), *volume, *seq)?;
            }
            report.warnings.append(&mut reasons);
        } else {
            report.unreachable_runs.push(format!("run {seq}: {}", reasons.join("; ")));
            misleading.extend(followed.get(&(*seq, *uuid)));
        }
        observer.advance(1, 0);
    }
    Ok(())
}

/// Names the volumes that were not seen, and what cannot be had without them.
fn name_missing(catalog: &mut Catalog, found: &[VolumeId], report: &mut RebuildReport) -> Result<()> {
    let conn = catalog.conn();
    let missing: Vec<_> = volumes::all(conn)?.into_iter().filter(|row| !found.contains(&row.id)).collect();
    let is_all_here = missing.is_empty() && report.unreachable_runs.is_empty();
    if is_all_here && redundancy::bad_blocks(conn)? == 0 {
        return Ok(());
    }
    let ids: Vec<VolumeId> = missing.iter().map(|row| row.id).collect();
    ids.iter().try_for_each(|id| settings::set_doubt(conn, (*id, Doubt::Unseen), true))?;
    let awaited = missing.iter().filter(|row| row.state != VolumeState::Lost);
    report.volumes_missing = awaited.map(|row| format!("{} ({})", row.name, row.uuid)).collect();
    if !is_all_here {
        runs::set_floor(conn, RunSeq(runs::next_seq(conn)?.0 + RUNS_PASSED_OVER - 1))?;
    }
    let sources: BTreeMap<_, _> = runs::sources(conn)?
        .into_iter()
        .map(|source| (source.id, format!("{}:{}", source.host, source.name)))
        .collect();
    for content in damage::contents_only_on(conn, &ids)? {
        damage::for_each_user(conn, content, &mut |user| {
            report.files_needing_missing_total += 1;
            if report.files_needing_missing.len() < LISTED_MAX {
                let source = sources.get(&user.source).cloned().unwrap_or_default();
                let to = user.last_run.map_or_else(|| "now".to_owned(), |run| run.to_string());
                report.files_needing_missing.push(format!(
                    "{source}: {} (runs {} to {to})",
                    show(&user.path),
                    user.first_run
                ));
            }
            Ok(())
        })?;
    }
    report.files_needing_missing.sort();
    Ok(())
}

fn count(catalog: &Catalog, report: &mut RebuildReport) -> Result<()> {
    let totals = runs::totals(catalog.conn())?;
    report.runs = totals.runs;
    report.sources = totals.sources;
    report.file_versions = totals.file_versions;
    report.chunks = totals.chunks;
    report.blocks = totals.blocks;
    Ok(())
}
