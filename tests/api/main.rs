//! The library from outside: verbs against real directories.
mod backup;
