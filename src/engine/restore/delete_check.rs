//! Whether `--delete` may delete at all, by what is known of the run and of the target before anything is written.

use super::delete::unread_in;
use super::tour::Tour;
use super::{Delete, Overwrite, RestoreOptions};
use crate::catalog::runs;
use crate::engine::error::{EngineError, Result};
use crate::format::layout;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Checks it; gives the roots of a source that has several, without their leading slashes.
///
/// # Errors
/// `Usage`, with what to do instead.
pub(super) fn check_delete(tour: &Tour<'_>, options: &RestoreOptions) -> Result<Option<Vec<Vec<u8>>>> {
    if options.how.delete == Delete::Nothing {
        return Ok(None);
    }
    if matches!(options.overwrite, None | Some(Overwrite::Never)) {
        return usage(
            "--delete needs --overwrite always, if-changed or if-newer: it makes what is there like the run".to_owned(),
        );
    }
    if tour.wanted.strips() {
        return usage("--delete cannot go with --strip-components: what lies there has no place in the run".to_owned());
    }
    check_place(tour, &options.dest)?;
    unread_in(tour)?;
    let (seq, of_source) = (tour.picked.run.seq, &tour.picked.source.roots);
    let asked = runs::asked(tour.repository.catalog.conn(), seq)?;
    let roots = asked.as_ref().map_or(of_source, |asked| &asked.roots);
    if roots.is_empty() {
        return usage(format!(
            "run {seq} was read from a stream and says nothing about what else lies in a folder; leave out --delete"
        ));
    }
    let is_accepted = options.how.delete == Delete::Excluded;
    let why = match &asked {
        None if roots.len() > 1 => {
            return usage(format!(
                "run {seq} is of an earlier release, which did not record the directories of each run; choose a later \
                 run, or leave out --delete"
            ));
        }
        None => "is of an earlier release, which did not record whether anything was left out of it on purpose",
        Some(_) if roots.len() > 1 => "is of several directories, and of nothing that lies beside them",
        Some(asked) if asked.selected => {
            "has left out some of its source on purpose, by patterns, marks, sizes, lists or -x"
        }
        Some(_) => return Ok(None),
    };
    if !is_accepted {
        return usage(format!(
            "run {seq} {why}; what it lacks may be what nobody wanted to back up: look at it with --delete-excluded --dry-run, \
             which takes that away too, or leave out --delete"
        ));
    }
    if roots.len() == 1 {
        return Ok(None);
    }
    if roots.iter().any(|root| root.contains(char::REPLACEMENT_CHARACTER)) {
        return usage(format!(
            "run {seq} has a directory whose name is not UTF-8 and is not known exactly; leave out --delete"
        ));
    }
    Ok(Some(roots.iter().map(|root| root.trim_matches('/').as_bytes().to_vec()).collect()))
}

/// Refuses a target that is a volume or lies in one.
fn check_place(tour: &Tour<'_>, dest: &Path) -> Result<()> {
    let Ok(real) = dest.canonicalize() else { return Ok(()) };
    let own = tour.repository.guarded_inodes();
    let is_volume = |dir: &&Path| {
        let is_own = dir.metadata().is_ok_and(|dir| own.contains(&(dir.dev(), dir.ino())));
        is_own || dir.join(layout::LABEL).symlink_metadata().is_ok()
    };
    match real.ancestors().find(is_volume) {
        Some(volume) => usage(format!(
            "{} lies in the RaidTape volume {}, of which nothing is ever deleted; choose another target",
            dest.display(),
            volume.display()
        )),
        None => Ok(()),
    }
}

fn usage<T>(sentence: String) -> Result<T> {
    Err(EngineError::Usage(sentence))
}
