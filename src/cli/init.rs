//! `init`.

use super::session::Session;
use super::{values, words};
use clap::Args;
use raidtape::engine::Exit;
use raidtape::engine::init::{self, InitOptions};
use raidtape::model::params::{Compression, HashAlgo, Reserve};
use raidtape::model::redundancy::Redundancy;

/// Create a catalog
#[derive(Debug, Args)]
#[command(after_help = "\
Refuses to overwrite one. Volumes are added with `add-volume`; `backup --volume
DIR` does both by itself.

Examples:
  raidtape init
  raidtape --catalog backup.cat init --reserve 20G --hash-algo sha256
  raidtape --catalog backup.cat init --redundancy copies=2
  raidtape --catalog backup.cat init --redundancy parity=4+2")]
pub struct InitArgs {
    /// Space that volumes keep free: a percentage of their size, or a size (20G)
    #[arg(long, value_name = "RESERVE", value_parser = values::reserve, default_value = "5")]
    reserve: Reserve,
    /// Hash of chunks, files and blocks: blake3 or sha256
    #[arg(long, value_name = "ALGO", value_parser = values::hash_algo, default_value = "blake3")]
    hash_algo: HashAlgo,
    /// Size of a block at most, from 8M to 128M
    #[arg(long, value_name = "SIZE", value_parser = values::size, default_value = "128M")]
    block_size: u64,
    /// zstd:LEVEL, from 1 to 19, or none
    #[arg(long, value_name = "HOW", value_parser = values::compression, default_value = "zstd:3")]
    compression: Compression,
    /// What may be lost: none; copies=N: all but one of N volumes; parity=K+M: any M volumes
    #[arg(long, value_name = "REDUNDANCY", value_parser = values::redundancy, default_value = "none")]
    redundancy: Redundancy,
}

/// Creates the catalog.
pub fn run(session: &mut Session, args: &InitArgs) -> anyhow::Result<Exit> {
    let options = InitOptions {
        hash: args.hash_algo,
        reserve: args.reserve,
        block_size: args.block_size,
        compression: args.compression,
        redundancy: args.redundancy,
    };
    let path = session.catalog_path()?;
    let (_repository, report) = init::init(&path, &options)?;
    if session.out.is_json {
        session.out.document("summary", &report);
    }
    session.out.say(&format!("Created the catalog {}", path.display()));
    session.out.say(&format!(
        "hash {}, blocks up to {}, redundancy {}, repository {}",
        report.hash_algo.name(),
        words::size(report.block_size),
        report.redundancy,
        report.repository
    ));
    if session.global.volumes.is_empty() {
        session.out.say("Next: `raidtape add-volume DIR` for each disk");
    } else {
        session.warn("init takes no --volume; add each with `raidtape add-volume DIR`");
    }
    Ok(Exit::Done)
}
