//! All that is stored as a stream of rows, from one snapshot: a copy that does not stop the store, and that another
//! release's file format does not touch.
//!
//! ```text
//! copy = "chancery store v1\n" row* 0xff rows:u64
//! row  = table:u8 version:u64 key-length:u32 value-length:u32 key value
//! ```
//!
//! Integers are little-endian; the index's rows have version 0.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, ReadableTable};

use super::{ACCOUNTS, AUTHORIZATIONS, Embedded, Facts, INDEX, ORDERS, REPLACED};
use crate::store::StoreError;

const MAGIC: &[u8] = b"chancery store v1\n";
const END: u8 = 0xff;
/// By their number in the stream; the index is the next.
const FACTS: [Facts; 4] = [ACCOUNTS, ORDERS, AUTHORIZATIONS, REPLACED];
const INDEXED: u8 = 4;
const MOST_KEY: usize = 4096;
const MOST_VALUE: usize = 16 << 20;
/// Rows of one transaction when they are put back.
const ROWS: u64 = 4096;

impl Embedded {
    /// Writes every row of one state of the store; returns how many. Commits go on meanwhile.
    pub fn copy_to(&self, out: &mut dyn Write) -> Result<u64, StoreError> {
        let snapshot = self.snapshot()?;
        let failed = |error: io::Error| {
            StoreError::Halt(format!("CHY-STORE-COPY: the copy cannot be written: {error}"))
        };
        out.write_all(MAGIC).map_err(failed)?;
        let mut rows = 0u64;
        for (number, facts) in FACTS.into_iter().enumerate() {
            let table = snapshot.transaction.open_table(facts).map_err(|e| self.halted.io(e))?;
            for row in table.iter().map_err(|e| self.halted.io(e))? {
                let (key, value) = row.map_err(|e| self.halted.io(e))?;
                let (version, octets) = value.value();
                put(out, number as u8, version, key.value(), octets).map_err(failed)?;
                rows += 1;
            }
        }
        let index = snapshot.index()?;
        for row in index.iter().map_err(|e| self.halted.io(e))? {
            let (key, value) = row.map_err(|e| self.halted.io(e))?;
            put(out, INDEXED, 0, key.value(), value.value()).map_err(failed)?;
            rows += 1;
        }
        out.write_all(&[END]).and_then(|()| out.write_all(&rows.to_le_bytes())).map_err(failed)?;
        Ok(rows)
    }
}

/// Makes a new store at `path` from a copy; returns how many rows it has. The text of an error is for the operator.
pub fn fill(path: &Path, from: &mut dyn Read) -> Result<u64, String> {
    let failed = |why: &dyn std::fmt::Display| {
        format!("CHY-STORE-COPY: {} cannot be made from its copy: {why}", path.display())
    };
    // As the store makes its own file: for its process alone.
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let database = file
        .map_err(|e| failed(&e))
        .and_then(|file| FileBackend::new(file).map_err(|e| failed(&e)))
        .and_then(|backend| {
            Database::builder().create_with_backend(backend).map_err(|e| failed(&e))
        })?;
    let mut magic = [0; MAGIC.len()];
    from.read_exact(&mut magic).map_err(|e| failed(&e))?;
    if magic != MAGIC {
        return Err(failed(&"it is of another version"));
    }
    let mut rows = 0u64;
    loop {
        let transaction = database.begin_write().map_err(|e| failed(&e))?;
        let ended = {
            let open = |facts| transaction.open_table(facts).map_err(|e| failed(&e));
            let mut facts =
                [open(ACCOUNTS)?, open(ORDERS)?, open(AUTHORIZATIONS)?, open(REPLACED)?];
            let mut index = transaction.open_table(INDEX).map_err(|e| failed(&e))?;
            let until = rows + ROWS;
            loop {
                if rows == until {
                    break false;
                }
                let Some(row) = row(from).map_err(|e| failed(&e))? else { break true };
                match facts.get_mut(usize::from(row.table)) {
                    Some(table) => {
                        let id: &[u8; 16] =
                            row.key.as_slice().try_into().map_err(|_| failed(&"a key is none"))?;
                        table
                            .insert(id, (row.version, row.value.as_slice()))
                            .map_err(|e| failed(&e))?;
                    }
                    None => {
                        index
                            .insert(row.key.as_slice(), row.value.as_slice())
                            .map_err(|e| failed(&e))?;
                    }
                }
                rows += 1;
            }
        };
        transaction.commit().map_err(|e| failed(&e))?;
        if ended {
            break;
        }
    }
    let mut told = [0; 8];
    from.read_exact(&mut told).map_err(|e| failed(&e))?;
    if u64::from_le_bytes(told) != rows || from.read(&mut [0]).map_err(|e| failed(&e))? != 0 {
        return Err(failed(&"it does not have as many rows as it says"));
    }
    Ok(rows)
}

struct Row {
    table: u8,
    version: u64,
    key: Vec<u8>,
    value: Vec<u8>,
}

fn put(out: &mut dyn Write, table: u8, version: u64, key: &[u8], value: &[u8]) -> io::Result<()> {
    let length = |octets: &[u8]| u32::try_from(octets.len()).unwrap_or(u32::MAX).to_le_bytes();
    out.write_all(&[table])?;
    out.write_all(&version.to_le_bytes())?;
    out.write_all(&length(key))?;
    out.write_all(&length(value))?;
    out.write_all(key)?;
    out.write_all(value)
}

/// The next row; `None` at the end.
fn row(from: &mut dyn Read) -> io::Result<Option<Row>> {
    let broken = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut table = [0];
    from.read_exact(&mut table)?;
    if table[0] == END {
        return Ok(None);
    }
    if table[0] > INDEXED {
        return Err(broken("a table is not known"));
    }
    let (mut version, mut length) = ([0; 8], [0; 4]);
    from.read_exact(&mut version)?;
    let mut lengths = [0; 2];
    for one in &mut lengths {
        from.read_exact(&mut length)?;
        *one = u32::from_le_bytes(length) as usize;
    }
    if lengths[0] > MOST_KEY || lengths[1] > MOST_VALUE {
        return Err(broken("a row is too long"));
    }
    let (mut key, mut value) = (vec![0; lengths[0]], vec![0; lengths[1]]);
    from.read_exact(&mut key)?;
    from.read_exact(&mut value)?;
    Ok(Some(Row { table: table[0], version: u64::from_le_bytes(version), key, value }))
}

/// Whether the octets are a copy; nothing is kept of it.
pub fn judge(mut copy: &[u8]) -> bool {
    let mut magic = [0; MAGIC.len()];
    if copy.read_exact(&mut magic).is_err() || magic != MAGIC {
        return false;
    }
    let mut rows = 0u64;
    loop {
        match row(&mut copy) {
            Ok(Some(_)) => rows += 1,
            Ok(None) => return copy == rows.to_le_bytes(),
            Err(_) => return false,
        }
    }
}
