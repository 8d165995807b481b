//! The program as its users meet it: arguments, words, JSON, exit codes. What the verbs do is tested beside them.

mod arguments;
mod finding;
mod looking;
mod making;
mod program;
