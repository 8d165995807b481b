//! Names of users and groups, as this system tells them. Each number and each name is asked for once.
//!
//! What cannot be found out, because there is no such name or because the system's directory does not answer, has none:
//! numbers go on to work without.

use std::collections::HashMap;

use nix::unistd::{Gid, Group, Uid, User};

use crate::model::version::Owner;

/// What was asked for so far.
#[derive(Debug, Default)]
pub struct Names {
    users: HashMap<u32, Vec<u8>>,
    groups: HashMap<u32, Vec<u8>>,
}

impl Names {
    /// Owner and group with their names; empty ones where there are none.
    pub fn owner(&mut self, uid: u32, gid: u32) -> Owner {
        let user = self.users.entry(uid).or_insert_with(|| {
            let found = User::from_uid(Uid::from_raw(uid)).ok().flatten();
            found.map(|user| exact(user.name)).unwrap_or_default()
        });
        let group = self.groups.entry(gid).or_insert_with(|| {
            let found = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
            found.map(|group| exact(group.name)).unwrap_or_default()
        });
        Owner { uid, gid, user: user.clone(), group: group.clone() }
    }
}

/// The numbers that an owner's names have on this system; its own where this system does not know the names. 0 is 0
/// everywhere.
pub fn numbers_here(owner: &Owner) -> (u32, u32) {
    let text = |name: &[u8]| std::str::from_utf8(name).ok().filter(|name| !name.is_empty()).map(str::to_owned);
    let user = text(&owner.user).filter(|_| owner.uid != 0);
    let group = text(&owner.group).filter(|_| owner.gid != 0);
    let user = user.and_then(|name| User::from_name(&name).ok().flatten());
    let group = group.and_then(|name| Group::from_name(&name).ok().flatten());
    (user.map_or(owner.uid, |user| user.uid.as_raw()), group.map_or(owner.gid, |group| group.gid.as_raw()))
}

/// Whether this process may give files away at all; nobody else needs to know to whom.
pub fn may_give_away() -> bool {
    rustix::process::geteuid().is_root()
}

/// A name that lost bytes on the way is none.
fn exact(name: String) -> Vec<u8> {
    if name.contains(char::REPLACEMENT_CHARACTER) { Vec::new() } else { name.into_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_system_knows_has_a_name_and_the_rest_none() {
        let mut names = Names::default();
        let root = names.owner(0, 0);
        assert_eq!((root.user.as_slice(), root.group.as_slice()), (&b"root"[..], &b"root"[..]));
        let nobodys = names.owner(3_999_999_999, 3_999_999_998);
        assert_eq!(nobodys, Owner { uid: 3_999_999_999, gid: 3_999_999_998, ..Owner::default() });
        assert_eq!(names.owner(0, 0), root);
    }

    #[test]
    fn a_name_leads_to_the_number_that_it_has_here_and_an_unknown_one_to_the_number_that_it_had() {
        let owner =
            |uid, user: &[u8], gid, group: &[u8]| Owner { uid, gid, user: user.to_vec(), group: group.to_vec() };
        assert_eq!(numbers_here(&owner(77, b"root", 78, b"root")), (0, 0));
        assert_eq!(numbers_here(&owner(77, b"no such user", 78, b"\xff")), (77, 78));
        assert_eq!(numbers_here(&owner(77, b"", 78, b"")), (77, 78));
        assert_eq!(numbers_here(&owner(0, b"nobody", 0, b"nogroup")), (0, 0));
    }
}
