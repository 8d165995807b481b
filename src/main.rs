//! The `raidtape` binary: hands argv to `cli` and returns its exit code.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
