//! What scenario tests are made of: a bench to run the program on, trees to back up, and an oracle that says whether
//! two trees are the same.

pub mod bench;
pub mod changes;
pub mod disk;
pub mod disks;
pub mod five;
pub mod nasty;
pub mod needs;
pub mod oracle;
#[cfg(target_arch = "x86_64")]
pub mod stage;
pub mod told;
#[cfg(target_arch = "x86_64")]
pub mod tracer;
pub mod tree;
