//! The record of every complete run, on every volume that should hold it.

use super::Level;
use super::block_check::{Damage, Stop, hash_object};
use super::report::ValidateReport;
use crate::catalog::runs::{self, Run, RunState};
use crate::engine::Observer;
use crate::engine::block_file::ReadError;
use crate::engine::error::{EngineError, Result};
use crate::engine::manifest_file::ManifestReader;
use crate::engine::recover::is_excused;
use crate::engine::repository::{Mounted, Repository};
use crate::format::bytes::Reader;
use crate::format::container::FormatError;
use crate::format::layout::{self, ManifestCopy};
use crate::format::manifest::{BlockRecord, DictionaryRun, Encoding, ManifestMeta, ManifestVolume, SectionTag};
use crate::format::manifest_rows::RowDecoder;
use crate::volume::store::StoreError;
use std::collections::BTreeSet;

/// Reads the manifests that ought to be here. One that is damaged in one place is damage even where another place
/// holds it; the sentence says so.
pub(super) fn check_manifests(
    repository: &Repository,
    observer: &dyn Observer,
    report: &mut ValidateReport,
) -> Result<()> {
    let mut complete = runs::all(repository.catalog.conn())?;
    complete.retain(|run| run.state == RunState::Complete);
    let mut excused = BTreeSet::new();
    for run in &complete {
        let mut problems = Vec::new();
        let mut holders = Vec::new();
        for mounted in repository.mounted.iter().filter(|mounted| mounted.row.last_seq >= Some(run.seq)) {
            for copy in [ManifestCopy::First, ManifestCopy::Second, ManifestCopy::Full] {
                if observer.is_cancelled() {
                    return Err(EngineError::Interrupted);
                }
                let place = Place { repository, mounted, run, copy };
                let words = match copy {
                    ManifestCopy::First => format!("volume {}", mounted.row.name),
                    ManifestCopy::Second => format!("volume {} (second file)", mounted.row.name),
                    ManifestCopy::Full => format!("volume {} (full record)", mounted.row.name),
                };
                match place.check(report.level, observer) {
                    Ok(Found::Sound) => {
                        report.manifests_checked += 1;
                        holders.push(words);
                    }
                    Ok(Found::NotWanted) => {}
                    // No volume could give it, and a record of the whole state took its place.
                    Err(Stop::Damage(Damage::Missing))
                        if copy == ManifestCopy::First && is_excused(mounted, &complete, run) =>
                    {
                        excused.insert(run.seq);
                    }
                    Err(Stop::Cancelled) => return Err(EngineError::Interrupted),
                    Err(Stop::Damage(damage)) => {
                        report.manifests_checked += u64::from(damage != Damage::Missing);
                        problems.push(format!("{words}: the record of run {}: {damage}", run.seq));
                    }
                }
            }
        }
        let held = match holders.as_slice() {
            [] => "; no sound one is here".to_owned(),
            holders => format!("; held soundly by {}", holders.join(", ")),
        };
        if !holders.is_empty() {
            excused.remove(&run.seq);
        }
        report.manifest_problems.extend(problems.into_iter().map(|problem| problem + &held));
    }
    if let Some(last) = excused.last() {
        report.notes.push(format!(
            "the records of {} runs up to run {last} are on no volume any more: a catalog that is rebuilt will not have these runs",
            excused.len()
        ));
    }
    Ok(())
}

enum Found {
    Sound,
    /// A second file or a full record that is not there: not every run has one.
    NotWanted,
}

struct Place<'r> {
    repository: &'r Repository,
    mounted: &'r Mounted,
    run: &'r Run,
    copy: ManifestCopy,
}

impl Place<'_> {
    fn check(&self, level: Level, observer: &dyn Observer) -> std::result::Result<Found, Stop> {
        let key = layout::manifest_key(self.run.seq, &self.run.uuid, self.copy);
        let object = match (self.mounted.store().open(&key), self.copy) {
            (Err(StoreError::NotFound { .. }), ManifestCopy::Second | ManifestCopy::Full) => {
                return Ok(Found::NotWanted);
            }
            (opened, _) => opened?,
        };
        let settings = self.repository.settings();
        let (mut reader, _) = ManifestReader::open(&*object, Some(settings.repository))?;
        if level == Level::Quick {
            return Ok(Found::Sound);
        }
        let mut meta: Option<ManifestMeta> = None;
        while let Some((tag, body)) = reader.next_section()? {
            if observer.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            match tag {
                SectionTag::Meta => meta = Some(from_json(&body, "head")?),
                SectionTag::Volumes => {
                    let _: Vec<ManifestVolume> = from_json(&body, "volumes")?;
                }
                _ => check_records(tag, &body).map_err(ReadError::from)?,
            }
        }
        let meta = meta.ok_or_else(|| damaged("it has no head"))?;
        if meta.run != self.run.uuid
            || meta.run_seq() != self.run.seq
            || self.run.digest.is_some_and(|digest| digest != meta.result)
        {
            return Err(damaged("it is the record of another run, or of another state"));
        }
        // The same run may lie beside it in full: other bytes that say the same.
        let may_differ = self.copy == ManifestCopy::Full && meta.encoding == Encoding::Full;
        match self.run.manifest {
            Some(digest) if !may_differ && hash_object(&*object, settings.hash, observer)? != digest => {
                Err(damaged("its bytes are not those that the catalog knows"))
            }
            _ => Ok(Found::Sound),
        }
    }
}

fn from_json<T: serde::de::DeserializeOwned>(body: &[u8], what: &str) -> std::result::Result<T, Stop> {
    serde_json::from_slice(body).map_err(|_| damaged(&format!("its {what} cannot be read")))
}

fn damaged(what: &str) -> Stop {
    Stop::Damage(Damage::Content(what.to_owned()))
}

fn check_records(tag: SectionTag, body: &[u8]) -> std::result::Result<(), FormatError> {
    let mut fields = Reader::new(body);
    match tag {
        SectionTag::Blocks => {
            while !fields.is_at_end() {
                BlockRecord::decode(&mut fields)?;
            }
        }
        SectionTag::Dictionary => {
            while !fields.is_at_end() {
                DictionaryRun::decode(&mut fields)?;
            }
        }
        SectionTag::Rows => {
            let mut rows = RowDecoder::new(body);
            while rows.next_row()?.is_some() {}
        }
        SectionTag::Meta | SectionTag::Volumes => {}
    }
    Ok(())
}
