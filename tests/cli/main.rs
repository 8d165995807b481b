//! The program as its users meet it: arguments, words, JSON, exit codes. What the verbs do is tested beside them.

mod arguments;
mod finding;
mod generated;
mod json;
mod locks;
mod looking;
mod making;
mod profiles;
mod program;
mod shown;
