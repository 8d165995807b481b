//! Man pages, one for each command, from the definition that parses its arguments.

use crate::cli::args::Cli;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::io;
use std::path::Path;

/// Writes all pages into `dir`; returns their names.
pub fn write(dir: &Path) -> io::Result<Vec<String>> {
    std::fs::create_dir_all(dir)?;
    let mut top = Cli::command().disable_help_subcommand(true);
    top.build();
    let mut names = Vec::new();
    write_all(&top, dir, &mut names)?;
    names.sort();
    Ok(names)
}

fn write_all(command: &Command, dir: &Path, names: &mut Vec<String>) -> io::Result<()> {
    let (name, text) = page(command)?;
    std::fs::write(dir.join(&name), text)?;
    names.push(name);
    command.get_subcommands().try_for_each(|below| write_all(below, dir, names))
}

fn page(command: &Command) -> io::Result<(String, Vec<u8>)> {
    let version = env!("CARGO_PKG_VERSION");
    // Without a date the fields behind it would be taken for it.
    let today = jiff::Zoned::now().date().to_string();
    let man = Man::new(command.clone()).date(today).source(format!("raidtape {version}")).manual("RaidTape");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(more) = command.get_after_help() {
        // As it stands: examples and tables lose their sense when their lines are filled.
        let mut roff = Roff::new();
        roff.control("SH", ["NOTES AND EXAMPLES"]).control("nf", []);
        for line in more.to_string().lines() {
            if line.is_empty() {
                roff.control("sp", []);
            } else {
                roff.text([roman(line)]);
            }
        }
        roff.control("fi", []);
        roff.to_writer(&mut text)?;
    }
    Ok((man.get_filename(), text))
}
