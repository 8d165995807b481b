//! Short lives that once went wrong.

use super::ops::Catalog::{InPlace, Lost};
use super::ops::Disks::Two;
use super::ops::How::Plain;
use super::ops::Op::{
    AddVolume, Backup, CopyCatalog, HarmRecord, OlderCatalog, RebuildCatalog, VolumeComesBack, VolumeGoes,
};
use super::ops::Source::Src;
use super::ops::Writer::Validate;
use super::replay;

#[test]
fn regression_a_second_rebuild_within_a_second_keeps_both_catalogs_that_were_in_place() {
    replay(Two, &[RebuildCatalog(InPlace), RebuildCatalog(InPlace)]);
}

#[test]
fn regression_a_damaged_record_is_told_also_by_an_older_catalog_that_caught_up() {
    replay(Two, &[CopyCatalog, Backup(Src, Plain), OlderCatalog(Validate), HarmRecord(0)]);
}

#[test]
fn regression_a_damaged_record_is_told_also_on_a_volume_that_was_away_when_the_catalog_was_rebuilt() {
    replay(Two, &[Backup(Src, Plain), VolumeGoes, RebuildCatalog(Lost), VolumeComesBack, HarmRecord(1)]);
}

#[test]
fn regression_a_volume_gets_a_record_that_was_sound_only_on_one_that_was_away() {
    replay(Two, &[Backup(Src, Plain), HarmRecord(0), VolumeGoes, AddVolume, Backup(Src, Plain)]);
}
