//! The record of a source's whole state, written beside a run's own record when the deltas since the last whole one
//! outweigh it: a rebuild can start there when an earlier record is lost. Never written by a run that changed nothing.

use super::finish::{catalog_header, known_volumes, meta_of};
use crate::catalog::interned::dirs_within;
use crate::catalog::row::StoredObject;
use crate::catalog::runs::{self, Source};
use crate::catalog::state::live_entries;
use crate::catalog::versions::{Applied, Change};
use crate::catalog::{Catalog, CatalogError};
use crate::engine::error::Result;
use crate::engine::manifest_file::ManifestSink;
use crate::engine::manifest_write::ManifestEncoder;
use crate::engine::manifest_write_rows::{RowSections, RowsWriter};
use crate::engine::observer::Observer;
use crate::engine::recover::is_lacking;
use crate::engine::repository::Repository;
use crate::format::layout::{self, ManifestCopy};
use crate::format::manifest::{Encoding, ManifestMeta};
use crate::model::ids::{RunSeq, SourceId, StateDigest};
use crate::volume::store::Store;

/// All live rows of a source, as a record says them.
fn live_rows(catalog: &Catalog, source: SourceId) -> std::result::Result<RowSections, CatalogError> {
    let (conn, mut rows) = (catalog.conn(), RowsWriter::new(catalog));
    for (id, dir) in dirs_within(conn, source, b"")? {
        for entry in live_entries(conn, id)? {
            let content = match entry.version.object {
                StoredObject::Content(id) => Some(id),
                _ => None,
            };
            let version = entry.version.resolve(conn)?;
            let change = Change::Put { version, content, detection: entry.detection };
            rows.push((&dir, &entry.name), (&change, Applied::Changed { before: None }, None))?;
        }
    }
    rows.finish()
}

/// Writes the whole state after the complete run `seq` to every writable volume, if that is due. The run is saved
/// already: what goes wrong here is only said.
pub fn write_if_due(
    repository: &mut Repository,
    (source, seq): (&Source, RunSeq),
    observer: &dyn Observer,
) -> Result<()> {
    let conn = repository.catalog.conn();
    let Some(run) = runs::get(conn, seq)? else { return Ok(()) };
    let counts = &run.counts;
    let has_changes = [counts.added, counts.modified, counts.metadata, counts.deleted].iter().any(|count| *count > 0);
    let is_due = run.prev.is_some() && has_changes && runs::is_full_due(conn, source.id)?;
    // Where earlier records are gone for good, those after them lead nowhere without it.
    if !is_due && !is_lacking(repository, source.id)? {
        return Ok(());
    }
    let meta = ManifestMeta {
        encoding: Encoding::Full,
        selected: runs::asked(conn, seq)?.map(|asked| asked.selected),
        ..meta_of(source, &run, StateDigest::EMPTY, repository.settings())
    };
    let writable: Vec<_> = repository.writable().collect();
    let stores: Vec<(usize, &dyn Store)> =
        writable.iter().enumerate().map(|(index, mounted)| (index, mounted.store().as_ref())).collect();
    let mut sink = ManifestSink::open(&stores, &catalog_header(&repository.catalog));
    let encoder = ManifestEncoder { before: conn };
    let held = repository.catalog.reading()?;
    let rows = live_rows(&repository.catalog, source.id)?;
    encoder.write(&mut sink, (&meta, &known_volumes(conn)?), &rows)?;
    drop(held);
    let outcome = sink.finish(&layout::manifest_key(seq, &run.uuid, ManifestCopy::Full));
    for (index, error) in &outcome.failed {
        observer
            .warn(&format!("volume {}: the full record of run {seq} is missing: {error}", writable[*index].row.name));
    }
    if !outcome.durable.is_empty() {
        runs::set_full_bytes(conn, seq, outcome.size)?;
    }
    Ok(())
}
