//! Blocks of which no copy could be had: their volumes were given up or removed, or what lay there is gone. Another volume may
//! hold one that this catalog does not know of, because it is an older copy or was made anew. What is found nowhere counts
//! as damaged, so that the next backup reads the files in it again.

use crate::catalog::redundancy;
use crate::catalog::{CatalogError, blocks};
use crate::engine::error::Result;
use crate::engine::observer::Observer;
use crate::engine::protect::copy::{BlockFile, Found, look};
use crate::engine::repository::{Mounted, Repository};

/// Looks for them where no row says that they are, by name, and hashes what is there.
pub(super) fn find_lonely(repository: &mut Repository, observer: &dyn Observer) -> Result<()> {
    let conn = repository.catalog.conn();
    let (algo, mut found) = (repository.settings().hash, 0_u64);
    for block in redundancy::lonely(conn)? {
        let copies = redundancy::copies(conn, block.no)?;
        let file = BlockFile { id: block.id, size: block.size, algo };
        // Where one is known to be damaged, `validate` looks again.
        let is_known = |mounted: &&Mounted| {
            copies.iter().any(|copy| copy.volume == mounted.row.id && (copy.is_sound || copy.is_bad))
        };
        for mounted in repository.mounted.iter().filter(|mounted| !is_known(mounted)) {
            match look(mounted.store().as_ref(), &file) {
                Ok(Found::Sound) => {
                    blocks::put_copy(conn, block.no, mounted.row.id)?;
                    blocks::mark_sound(conn, block.no)?;
                    found += 1;
                }
                Ok(_) => {}
                Err(error) => observer.warn(&format!("block {} on volume {}: {error}", block.id, mounted.row.name)),
            }
        }
    }
    if found > 0 {
        observer.warn(&format!("{found} copies of blocks were found on the volumes and are in the catalog now"));
    }
    let tx = repository.catalog.begin()?;
    let gone = redundancy::mark_lonely(&tx)?;
    tx.commit().map_err(CatalogError::from)?;
    if gone > 0 {
        observer.warn(&format!(
            "{gone} blocks are on no volume any more and count as damaged; `raidtape validate` names their files, and the next \
             backup stores again what its source still has"
        ));
    }
    Ok(())
}
