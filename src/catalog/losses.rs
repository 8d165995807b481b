//! What would be gone without some volumes: from their copies to blocks, chunks, contents and file versions, each step by
//! an index. Handed out as it is found; what is held is the set of contents that were told, by SQLite, which spills it to
//! disk.

use super::damage::{ContentUser, for_each_user, users_up_to};
use super::error::Result;
use super::parity;
use crate::model::ids::{ContentId, VolumeId};
use rusqlite::Connection;

/// Versions of one content that are sorted in memory: hardly any has more.
const USERS_QUICK: usize = 64;

/// Hands every file version to `each` that needs a chunk which lies on `volumes` and in no sound block elsewhere. Those
/// of one content follow each other. The first come at once: no step gathers before it hands on.
pub fn for_each_lost(
    conn: &Connection,
    volumes: &[VolumeId],
    each: &mut dyn FnMut(ContentUser) -> Result<()>,
) -> Result<()> {
    let given_back = parity::recoverable(conn, volumes)?;
    // What parity alone has now, and would not have then.
    let mut by_parity = parity::recoverable(conn, &[])?;
    by_parity.retain(|block| !given_back.contains(block));
    let mut select = conn.prepare(&lost_sql(volumes, &parity::list_sql(&given_back), &parity::list_sql(&by_parity)))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let content = ContentId(row.get(0)?);
        match users_up_to(conn, content, USERS_QUICK)? {
            Some(users) => users.into_iter().try_for_each(&mut *each)?,
            None => for_each_user(conn, content, each)?,
        }
    }
    Ok(())
}

/// `given_back` are blocks that parity makes again without the volumes, `by_parity` those that it makes again only with
/// them.
fn lost_sql(volumes: &[VolumeId], given_back: &str, by_parity: &str) -> String {
    let list = volumes.iter().map(|volume| volume.0.to_string()).collect::<Vec<_>>().join(",");
    // Whether a segment can be had from elsewhere.
    let held = |seg: &str| {
        format!(
            "(EXISTS(SELECT 1 FROM segments s JOIN blocks b ON b.id = s.block JOIN copies p ON p.block = s.block
                    JOIN volumes v ON v.id = p.volume
                    WHERE s.id = {seg} AND b.state = 'ok' AND p.state = 'ok' AND v.state NOT IN ('lost', 'removed')
                      AND p.volume NOT IN ({list}))
             OR EXISTS(SELECT 1 FROM segments s WHERE s.id = {seg} AND s.block IN ({given_back})))"
        )
    };
    format!(
        "WITH hit(block) AS (SELECT DISTINCT p.block FROM copies p JOIN blocks b ON b.id = p.block
             WHERE p.volume IN ({list}) AND b.state IN ('ok', 'bad')
             UNION SELECT b.id FROM blocks b WHERE b.id IN ({by_parity}) AND b.state IN ('ok', 'bad')),
           near(no) AS (
             SELECT c.no FROM hit CROSS JOIN segments s ON s.block = hit.block CROSS JOIN chunks c ON c.seg = s.id
               WHERE NOT {first_here}
             UNION ALL SELECT m.no FROM hit CROSS JOIN segments s ON s.block = hit.block
               CROSS JOIN chunk_more m ON m.seg = s.id CROSS JOIN chunks c ON c.no = m.no WHERE NOT {first_here}),
           gone(no) AS (SELECT no FROM near
             WHERE NOT EXISTS(SELECT 1 FROM chunk_more m WHERE m.no = near.no AND {further_here}))
         SELECT DISTINCT id FROM (SELECT t.id AS id FROM gone CROSS JOIN contents t
           ON t.chunk BETWEEN gone.no - 255 AND gone.no AND t.chunk + t.n > gone.no AND +t.chunk > 0
         UNION ALL SELECT e.content FROM gone CROSS JOIN extents e
           ON e.chunk BETWEEN gone.no - 255 AND gone.no AND e.chunk + e.n > gone.no AND +e.chunk > 0)",
        first_here = held("c.seg"),
        further_here = held("m.seg"),
    )
}
