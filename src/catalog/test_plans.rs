//! How SQLite goes about a statement, for tests: whether it goes through a whole table.

use super::Catalog;
use super::settings::Settings;
use crate::model::ids::RepositoryUuid;
use crate::model::params::{ChunkerParams, Compression, HashAlgo, Reserve};

/// An empty catalog.
pub(super) fn catalog() -> (tempfile::TempDir, Catalog) {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        repository: RepositoryUuid([1; 16]),
        hash: HashAlgo::Blake3,
        chunker: ChunkerParams { min: 1 << 18, avg: 1 << 20, max: 1 << 22, normalization: 2 },
        block_size: 1 << 20,
        compression: Compression::None,
        reserve: Reserve::Percent(1.0),
        redundancy: crate::model::redundancy::Redundancy::None,
    };
    let catalog = Catalog::create(&dir.path().join("backup.cat"), &settings).unwrap();
    (dir, catalog)
}

/// Panics if a statement would go through a whole table or index of the catalog.
pub(super) fn assert_by_index(statements: &[&str]) {
    let (_dir, catalog) = catalog();
    statements.iter().for_each(|sql| assert_plan(catalog.conn(), sql));
}

/// The same for one statement, with the schema that is there.
pub(super) fn assert_plan(conn: &rusqlite::Connection, sql: &str) {
    let mut select = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let count = select.parameter_count();
    let values = vec![rusqlite::types::Value::Blob(vec![0; 8]); count];
    let steps = select.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
    for step in steps.map(Result::unwrap) {
        assert!(!step.starts_with("SCAN") || ["SCAN hit"].contains(&step.as_str()), "{step}: {sql}");
    }
}
