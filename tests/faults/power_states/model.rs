//! The model of a disk itself, with calls made by hand.

use super::disk::{Disk, Pick, Tear, Tree};
use super::record::Op;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

fn create(path: &str) -> Op {
    Op::Create { path: path.into(), empties: false }
}

fn bytes(path: &str, at: u64, bytes: &[u8]) -> Op {
    Op::Write { path: path.into(), at, bytes: bytes.to_vec() }
}

fn rename(from: &str, to: &str) -> Op {
    Op::Rename { from: from.into(), to: to.into() }
}

/// A sync that began when all calls before it had ended.
fn sync(path: &str) -> Op {
    Op::Sync { path: path.into(), began: usize::MAX }
}

fn disk(before: &[(&str, Option<&[u8]>)], ops: &[Op]) -> Disk {
    let before = before.iter().map(|(path, content)| (path.into(), content.map(|bytes| Arc::new(bytes.to_vec()))));
    let mut disk = Disk::new(&before.collect::<Tree>());
    ops.iter().for_each(|op| disk.apply(op));
    disk
}

/// Names and bytes of a tree, as text.
fn told(tree: &Tree) -> BTreeMap<String, String> {
    let text = |bytes: &Arc<Vec<u8>>| String::from_utf8_lossy(bytes).into_owned();
    let line = |(path, content): (&PathBuf, &Option<Arc<Vec<u8>>>)| {
        (path.display().to_string(), content.as_ref().map_or("/".to_owned(), text))
    };
    tree.iter().map(line).collect()
}

/// Every state that may be left at the end, by every subset.
fn all_at_the_end(disk: &Disk) -> BTreeSet<BTreeMap<String, String>> {
    let instant = disk.instants() - 1;
    let pending = disk.pending(instant);
    let subsets = 0..1_usize << pending.len();
    let picks = subsets.map(|subset| {
        let present = pending.iter().enumerate().filter(|(bit, _)| subset >> bit & 1 == 1).map(|(_, item)| *item);
        Pick { present: present.collect(), torn: None }
    });
    picks.map(|pick| told(&disk.tree(instant, &pick))).collect()
}

fn trees(trees: &[&[(&str, &str)]]) -> BTreeSet<BTreeMap<String, String>> {
    let tree = |tree: &&[(&str, &str)]| tree.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
    trees.iter().map(tree).collect()
}

#[test]
fn a_rename_that_is_not_synced_leaves_the_old_name_or_the_new_one_never_both_and_never_neither() {
    let before: &[(&str, Option<&[u8]>)] = &[("new", Some(b"new")), ("old", Some(b"old"))];
    let lost = disk(before, &[rename("new", "old")]);
    let (kept, renamed): (&[_], &[_]) = (&[("new", "new"), ("old", "old")], &[("old", "new")]);
    assert_eq!(all_at_the_end(&lost), trees(&[kept, renamed]));
    let durable = disk(before, &[rename("new", "old"), sync("")]);
    assert_eq!(all_at_the_end(&durable), trees(&[renamed]));
}

#[test]
fn bytes_that_are_not_synced_are_lost_though_the_name_is_durable() {
    let ops = [create("f"), bytes("f", 0, b"abc"), sync("")];
    assert_eq!(all_at_the_end(&disk(&[], &ops)), trees(&[&[("f", "")], &[("f", "abc")]]));
    let both = [&ops[..], &[sync("f")]].concat();
    assert_eq!(all_at_the_end(&disk(&[], &both)), trees(&[&[("f", "abc")]]));
    // A write after the sync, or while it ran, is not covered by it.
    let later = [&both[..], &[bytes("f", 1, b"X")]].concat();
    assert_eq!(all_at_the_end(&disk(&[], &later)), trees(&[&[("f", "abc")], &[("f", "aXc")]]));
    let meanwhile = [create("f"), bytes("f", 0, b"abc"), sync(""), Op::Sync { path: "f".into(), began: 1 }];
    assert_eq!(all_at_the_end(&disk(&[], &meanwhile)).len(), 2);
}

#[test]
fn a_synced_file_is_lost_with_its_name() {
    let ops = [create("f"), bytes("f", 0, b"abc"), sync("f")];
    assert_eq!(all_at_the_end(&disk(&[], &ops)), trees(&[&[], &[("f", "abc")]]));
}

#[test]
fn what_lies_in_a_directory_that_was_never_synced_is_lost_with_it() {
    let made = Op::MakeDir { path: "d".into() };
    let ops = [made, create("tmp"), bytes("tmp", 0, b"abc"), sync("tmp"), rename("tmp", "d/f"), sync("d")];
    let (lost, there): (&[_], &[_]) = (&[], &[("d", "/"), ("d/f", "abc")]);
    assert_eq!(all_at_the_end(&disk(&[], &ops)), trees(&[lost, there]));
    let durable = [&ops[..], &[sync("")]].concat();
    assert_eq!(all_at_the_end(&disk(&[], &durable)), trees(&[there]));
}

#[test]
fn a_file_that_is_removed_may_come_back_and_a_length_may_be_the_old_one() {
    let before: &[(&str, Option<&[u8]>)] = &[("f", Some(b"abc"))];
    let ops = [Op::SetLen { path: "f".into(), len: 1 }, Op::Unlink { path: "f".into() }];
    assert_eq!(all_at_the_end(&disk(before, &ops)), trees(&[&[("f", "abc")], &[("f", "a")], &[]]));
}

#[test]
fn a_write_is_torn_where_sectors_begin() {
    let disk = disk(&[("f", Some(&[b'.'; 600]))], &[bytes("f", 500, &[b'X'; 1000])]);
    let torn = |tear| {
        let tree = disk.tree(1, &Pick { present: [0].into(), torn: Some((0, tear)) });
        tree[&PathBuf::from("f")].as_ref().unwrap().to_vec()
    };
    let expected = [12, 524].into_iter().flat_map(|len| [Tear::First(len), Tear::Last(len)]).chain([Tear::Length]);
    assert_eq!(disk.tears(0), expected.collect::<Vec<_>>());
    let part = |text: &[(char, usize)]| text.iter().map(|(c, n)| c.to_string().repeat(*n)).collect::<String>();
    assert_eq!(torn(Tear::First(12)), part(&[('.', 500), ('X', 12), ('.', 88)]).as_bytes());
    assert_eq!(torn(Tear::First(524)), part(&[('.', 500), ('X', 524)]).as_bytes());
    assert_eq!(torn(Tear::Last(524)), part(&[('.', 600), ('\0', 424), ('X', 476)]).as_bytes());
    assert_eq!(torn(Tear::Length), part(&[('.', 600), ('\0', 900)]).as_bytes());
}

#[test]
fn before_an_instant_nothing_of_what_comes_after_it_is_there() {
    let disk = disk(&[], &[create("f"), sync(""), create("g"), sync("")]);
    let nothing = Pick::default();
    let names = |instant| told(&disk.tree(instant, &nothing)).into_keys().collect::<String>();
    assert_eq!([0, 1, 2, 3, 4].map(names), ["", "", "f", "f", "fg"]);
    let counts: Vec<usize> = (0..5).map(|instant| disk.pending(instant).len()).collect();
    assert_eq!(counts, [0, 1, 0, 1, 0]);
}
