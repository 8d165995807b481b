//! Writing the parities of a group: column by column from the members, or from the parities before and the members that
//! came. Every member that is read is hashed whole: what is not what its name says gets no parity.
//!
//! A file's bytes follow from its group alone, its salt too, so that one that was lost is made again under its name.
//! In memory are K + M columns.

use super::file::{ParityFile, part_len};
use crate::codec::compress::Codec;
use crate::codec::hash::Hasher;
use crate::codec::parity::{ALGORITHM, ParityCode, column_hash};
use crate::engine::block_file::{ContainerWriter, EncodedSegment, ReadError};
use crate::engine::observer::Observer;
use crate::engine::protect::copy::{BlockFile, Present, Unread, set_aside};
use crate::format::container::{ContainerKind, HEADER_LEN, Header, SEGMENT_HEADER_LEN, SegmentKind, TRAILER_LEN};
use crate::format::layout;
use crate::format::parity::{ParityMember, ParityTable};
use crate::model::ids::{BlockId, RepositoryUuid, VolumeId};
use crate::model::limits::{BLOCK_FILE_LEN_MAX, PARITY_COLUMN_LEN};
use crate::model::params::HashAlgo;
use crate::volume::store::{Existing, Object, Store, StoreError};
use std::sync::Arc;

/// Columns that are asked for ahead of the one that is read.
const AHEAD: u64 = 4;

/// What a group is, beside its members.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Where it belongs.
    pub repository: RepositoryUuid,
    /// Hash that names are.
    pub algo: HashAlgo,
    /// K.
    pub positions: u8,
    /// M.
    pub parities: u8,
    /// Its identity.
    pub group: [u8; 16],
}

/// A member that is read.
pub struct Part {
    /// Where it is in the group.
    pub position: u8,
    /// What it should be.
    pub file: BlockFile,
    /// Its bytes.
    pub object: Box<dyn Object>,
}

/// A parity that is written.
pub struct Out {
    /// Which.
    pub index: u8,
    /// Where.
    pub volume: VolumeId,
    /// Where.
    pub store: Arc<dyn Store>,
    /// One that was there before is made again: its name, and what becomes of something that has it.
    pub again: Option<(BlockId, Present)>,
}

/// A parity that is durable.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    /// Which.
    pub index: u8,
    /// Where.
    pub volume: VolumeId,
    /// Name.
    pub id: BlockId,
    /// Bytes.
    pub size: u64,
}

/// Why there is none.
#[derive(Debug)]
pub enum Trouble {
    /// A member, by its place among those given.
    Part(usize, Unread),
    /// A parity of before, by its index.
    Base(u8, Unread),
    /// A volume that was written.
    Out(VolumeId, StoreError),
    /// What was made again has another name: some member is not what it was.
    OtherName,
    /// The user asked to stop.
    Stopped,
    /// What cannot be.
    Fault(String),
}

/// Bytes of a parity file whose longest member has `len` bytes, of a group of `members`, at most.
pub fn file_len_max(len: u64, members: u64) -> u64 {
    let columns = len.div_ceil(PARITY_COLUMN_LEN as u64);
    let table = 128 + members * 64 + (members + 1) * columns * 16;
    let frame = (HEADER_LEN + 2 * SEGMENT_HEADER_LEN + TRAILER_LEN) as u64;
    len.next_multiple_of(64) + columns * SEGMENT_HEADER_LEN as u64 + table + frame
}

/// Writes parities. Without `base` the parts are all members; with it, those that come to the members that its parities, all M
/// of them by index, are of. Nothing has its name before everything was read, hashed and written.
pub fn encode(
    shape: &Shape,
    parts: &[Part],
    (base, outs): (Option<&[ParityFile]>, &[Out]),
    observer: &dyn Observer,
) -> Result<(ParityTable, Vec<Made>), Trouble> {
    let mut table = first_table(shape, parts, base);
    let code = ParityCode::new(shape.positions.into(), shape.parities.into())
        .map_err(|error| Trouble::Fault(error.to_string()))?;
    let mut writers = Vec::with_capacity(outs.len());
    let limit = file_len_max(table.protected_len(), table.members.len() as u64);
    for out in outs {
        let header = header_of(shape, out.index);
        let began = out.store.begin(limit);
        let writer = began.and_then(|sink| ContainerWriter::new(sink, &header, BLOCK_FILE_LEN_MAX));
        writers.push(writer.map_err(|error| Trouble::Out(out.volume, error))?);
    }
    let mut hashers: Vec<Hasher> = parts.iter().map(|_| Hasher::new(shape.algo)).collect();
    let mut hashes: Vec<Vec<[u8; 16]>> = vec![Vec::new(); outs.len()];
    let mut columns: Vec<Vec<u8>> = parts.iter().map(|_| Vec::new()).collect();
    let mut parity: Vec<Vec<u8>> = vec![Vec::new(); shape.parities.into()];
    for column in 0..table.column_count() {
        if observer.is_cancelled() {
            return Err(Trouble::Stopped);
        }
        for (at, part) in parts.iter().enumerate() {
            read_part(&table, part, (column, &mut columns[at])).map_err(|what| Trouble::Part(at, what))?;
            hashers[at].update(&columns[at]);
            observer.advance(0, columns[at].len() as u64);
            if !columns[at].is_empty()
                && let Some(member) = table.members.iter_mut().find(|member| member.position == part.position)
            {
                member.hashes.push(column_hash(&columns[at]));
            }
        }
        fill_parity(&code, (&table, column), (parts, &columns, base), &mut parity)?;
        for ((out, writer), hashes) in outs.iter().zip(&mut writers).zip(&mut hashes) {
            let bytes = &parity[usize::from(out.index)];
            hashes.push(column_hash(bytes));
            let raw_len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let segment = EncodedSegment { codec: Codec::Raw, raw_len, bytes: bytes.clone() };
            writer.put(SegmentKind::Data, &segment).map_err(|error| Trouble::Out(out.volume, error))?;
        }
    }
    for (at, (part, hasher)) in parts.iter().zip(hashers).enumerate() {
        if hasher.finalize() != part.file.id.0 {
            return Err(Trouble::Part(at, Unread::Bad("its bytes do not hash to its name".to_owned())));
        }
    }
    let mut made = Vec::with_capacity(outs.len());
    for ((out, writer), hashes) in outs.iter().zip(writers).zip(hashes) {
        (table.index, table.hashes) = (out.index, hashes);
        match finish(out, writer, &table) {
            Ok(parity) => made.push(parity),
            Err(trouble) => {
                give_up(outs, &made);
                return Err(trouble);
            }
        }
    }
    Ok((table, made))
}

/// The members in their order, without the checksums of those that are still to be read.
fn first_table(shape: &Shape, parts: &[Part], base: Option<&[ParityFile]>) -> ParityTable {
    let before = base.and_then(|files| files.first()).map(|file| file.table.members.clone());
    let mut members = before.unwrap_or_default();
    members.extend(parts.iter().map(|part| ParityMember {
        position: part.position,
        block: part.file.id,
        len: part.file.size,
        hashes: Vec::new(),
    }));
    members.sort_by_key(|member| member.position);
    ParityTable {
        algorithm: ALGORITHM,
        group: shape.group,
        positions: shape.positions,
        parities: shape.parities,
        index: 0,
        column_len: u32::try_from(PARITY_COLUMN_LEN).unwrap_or(u32::MAX),
        members,
        hashes: Vec::new(),
    }
}

/// The salt is made of the group and the index: there is nothing that two files of one name could differ in.
fn header_of(shape: &Shape, index: u8) -> Header {
    let mut seed = b"RaidTape parity".to_vec();
    seed.extend(shape.group);
    seed.push(index);
    let salt = *blake3::hash(&seed).as_bytes();
    Header { kind: ContainerKind::Parity, hash: shape.algo, repository: shape.repository, salt }
}

fn read_part(table: &ParityTable, part: &Part, (column, bytes): (u64, &mut Vec<u8>)) -> Result<(), Unread> {
    let object = part.object.as_ref();
    if object.len() != part.file.size {
        return Err(Unread::Bad(format!("it has {} bytes, not {}", object.len(), part.file.size)));
    }
    let step = u64::from(table.column_len);
    let ahead = if column == 0 { 0..AHEAD } else { column + AHEAD..column + AHEAD + 1 };
    for next in ahead.filter(|next| next * step < part.file.size) {
        object.will_read(next * step, step);
    }
    bytes.resize(part_len(part.file.size, table, column), 0);
    if bytes.is_empty() {
        return Ok(());
    }
    object.read_exact_at(column * step, bytes).map_err(|error| match error {
        StoreError::Truncated { .. } => Unread::Bad(error.to_string()),
        other => Unread::Unreadable(other.to_string()),
    })?;
    object.forget(column * step, bytes.len() as u64);
    Ok(())
}

fn fill_parity(
    code: &ParityCode,
    (table, column): (&ParityTable, u64),
    (parts, columns, base): (&[Part], &[Vec<u8>], Option<&[ParityFile]>),
    parity: &mut [Vec<u8>],
) -> Result<(), Trouble> {
    let fault = |error: crate::codec::parity::ParityError| Trouble::Fault(error.to_string());
    let Some(base) = base else {
        let mut data: Vec<&[u8]> = vec![&[]; table.positions.into()];
        for (part, bytes) in parts.iter().zip(columns) {
            data[usize::from(part.position)] = bytes;
        }
        return code.encode(&data, part_len(table.protected_len(), table, column), parity).map_err(fault);
    };
    for ((file, parity), index) in base.iter().zip(parity.iter_mut()).zip(0_u8..) {
        *parity = Vec::new();
        if column < file.table.column_count() {
            *parity = file.column(column).map_err(|error| Trouble::Base(index, unread(&error)))?;
        }
    }
    for (part, bytes) in parts.iter().zip(columns) {
        code.toggle(part.position.into(), bytes, parity).map_err(fault)?;
    }
    Ok(())
}

/// Deletes parities that are durable and of no use without the one that failed. What stays is found by the next writer.
fn give_up(outs: &[Out], made: &[Made]) {
    for (out, parity) in outs.iter().zip(made).filter(|(out, _)| out.again.is_none()) {
        let _ = out.store.delete(&layout::block_key(&parity.id));
    }
}

fn finish(out: &Out, writer: ContainerWriter, table: &ParityTable) -> Result<Made, Trouble> {
    let failed = |error| Trouble::Out(out.volume, error);
    let sealed = writer.seal(Some(table.encode())).map_err(failed)?;
    let (id, size) = (sealed.id, sealed.size);
    let existing = match out.again {
        Some((wanted, _)) if wanted != id => return Err(Trouble::OtherName),
        Some((_, present)) => {
            if present == Present::SetAside {
                set_aside(out.store.as_ref(), &id).map_err(failed)?;
            }
            Existing::Replace
        }
        None => Existing::Fail,
    };
    let key = layout::block_key(&id);
    if let Err(error) = sealed.commit(&key, existing) {
        // It may be there all the same; what had the name before is somebody else's.
        if out.again.is_none() && !matches!(error, StoreError::Exists { .. }) {
            let _ = out.store.delete(&key);
        }
        return Err(failed(error));
    }
    Ok(Made { index: out.index, volume: out.volume, id, size })
}

/// The error of something that was to be opened.
pub fn unread(error: &ReadError) -> Unread {
    match error {
        ReadError::Store(StoreError::NotFound { .. }) => Unread::Missing,
        ReadError::Store(StoreError::Truncated { .. } | StoreError::NotAnObject { .. }) => {
            Unread::Bad(error.to_string())
        }
        ReadError::Store(_) => Unread::Unreadable(error.to_string()),
        _ => Unread::Bad(error.to_string()),
    }
}
