//! tar, as much of it as an archive needs: regular files in POSIX ustar headers (IEEE Std 1003.1, pax), no links, no
//! devices, no extensions. What `tar` writes otherwise is refused; what is written here, `tar` reads.

use std::io::{self, Read, Write};

const BLOCK: usize = 512;
/// Octets of a name at most; prefixes are not used.
pub const MOST_NAME: usize = 99;
/// What eleven octal digits can say.
pub const MOST_OCTETS: u64 = 0o777_7777_7777;

/// One file's header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Relative, without `.` or `..` or empty parts.
    pub name: String,
    pub octets: u64,
}

/// Writes entries one after the other.
pub struct Writer<W: Write> {
    to: W,
    /// Octets of the present entry that are still to come.
    left: u64,
    padding: usize,
}

/// Reads them back.
pub struct Reader<R: Read> {
    from: R,
    left: u64,
    padding: usize,
}

/// Whether a name may be an entry's: every part is plain, and it stays below where it is put.
pub fn is_name(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.~+:=@,".contains(&c))
    };
    name.len() <= MOST_NAME && name.split('/').all(plain)
}

impl<W: Write> Writer<W> {
    pub fn new(to: W) -> Self {
        Self { to, left: 0, padding: 0 }
    }

    /// Begins an entry; exactly so many octets must be written before the next.
    pub fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        self.end()?;
        if !is_name(&entry.name) || entry.octets > MOST_OCTETS {
            return Err(io::Error::other(format!("{:?} cannot be an entry", entry.name)));
        }
        self.to.write_all(&header(entry))?;
        self.left = entry.octets;
        self.padding = padding(entry.octets);
        Ok(())
    }

    /// Ends the archive, and hands back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.end()?;
        self.to.write_all(&[0; 2 * BLOCK])?;
        Ok(self.to)
    }

    fn end(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::other("an entry is shorter than it says"));
        }
        self.to.write_all(&[0; BLOCK][..self.padding])?;
        self.padding = 0;
        Ok(())
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if octets.len() as u64 > self.left {
            return Err(io::Error::other("an entry is longer than it says"));
        }
        let written = self.to.write(octets)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl<R: Read> Reader<R> {
    pub fn new(from: R) -> Self {
        Self { from, left: 0, padding: 0 }
    }

    /// The next entry; its octets are then read from `self`. `None` at the end of the archive, behind which there
    /// must be nothing.
    pub fn advance(&mut self) -> io::Result<Option<Entry>> {
        if self.left > 0 {
            return Err(broken("an entry was not read to its end"));
        }
        let mut padding = [0; BLOCK];
        self.from.read_exact(&mut padding[..self.padding])?;
        self.padding = 0;
        let mut block = [0; BLOCK];
        self.from.read_exact(&mut block)?;
        if block == [0; BLOCK] {
            self.from.read_exact(&mut block)?;
            let mut more = [0];
            if block != [0; BLOCK] || padding != [0; BLOCK] || self.from.read(&mut more)? != 0 {
                return Err(broken("there is something behind its end"));
            }
            return Ok(None);
        }
        let entry = parse(&block).ok_or_else(|| broken("an entry is not as it is written here"))?;
        self.left = entry.octets;
        self.padding = self::padding(entry.octets);
        if padding != [0; BLOCK] {
            return Err(broken("there is something between two entries"));
        }
        Ok(Some(entry))
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.from.read(&mut buffer[..wanted])?;
        if read == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn padding(octets: u64) -> usize {
    (BLOCK - (octets % BLOCK as u64) as usize) % BLOCK
}

/// The one header that an entry has.
fn header(entry: &Entry) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put =
        |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, &entry.name);
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", entry.octets));
    put(136, "00000000000\0");
    // The checksum is made with blanks in its own place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = block.iter().map(|octet| u32::from(*octet)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn parse(block: &[u8; BLOCK]) -> Option<Entry> {
    let end = block[..100].iter().position(|octet| *octet == 0)?;
    let name = std::str::from_utf8(&block[..end]).ok()?;
    let octets = std::str::from_utf8(&block[124..135]).ok()?;
    let entry = Entry { name: name.to_owned(), octets: u64::from_str_radix(octets, 8).ok()? };
    // One spelling: whatever else the header says, it is not from here.
    (is_name(name) && header(&entry) == *block).then_some(entry)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (name, octets) in files {
            let entry = Entry { name: (*name).to_owned(), octets: octets.len() as u64 };
            writer.begin(&entry).unwrap();
            writer.write_all(octets).unwrap();
        }
        writer.finish().unwrap()
    }

    fn unpacked(tar: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut reader = Reader::new(tar);
        let mut files = Vec::new();
        while let Some(entry) = reader.advance()? {
            let mut octets = vec![0; entry.octets as usize];
            reader.read_exact(&mut octets)?;
            files.push((entry.name, octets));
        }
        Ok(files)
    }

    #[test]
    fn entries_read_back_and_names_stay_below() {
        let files =
            [("manifest.json", vec![1; 511]), ("ca/a", vec![]), ("log/b.seg", vec![2; 1024])];
        let tar = packed(&files);
        assert_eq!(tar.len() % BLOCK, 0);
        let back = unpacked(&tar).unwrap();
        assert_eq!(back.len(), 3);
        for ((name, octets), (of, wanted)) in back.iter().zip(&files) {
            assert_eq!((name.as_str(), octets), (*of, wanted));
        }
        for bad in ["", "/etc/x", "a//b", "../x", "a/../b", "a/.b", "a b", "a\nb", "é", "a/"] {
            assert!(!is_name(bad), "{bad:?}");
        }
        assert!(!is_name(&"a".repeat(100)));
    }

    #[test]
    fn tar_itself_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        std::fs::write(&path, packed(&[("ca/a", vec![7; 700])])).unwrap();
        let out =
            std::process::Command::new("tar").arg("-xOf").arg(&path).arg("ca/a").output().unwrap();
        assert!(out.status.success() && out.stdout == vec![7; 700], "{out:?}");
    }

    proptest! {
        #[test]
        fn any_change_is_refused_or_changes_a_content(
            at: prop::sample::Index,
            bit in 0..8u8,
            cut: prop::sample::Index,
        ) {
            let tar = packed(&[("a", vec![7; 10]), ("b", vec![])]);
            prop_assert!(unpacked(&tar[..cut.index(tar.len())]).is_err());
            let mut other = tar.clone();
            let at = at.index(tar.len());
            other[at] ^= 1 << bit;
            let content = (BLOCK..BLOCK + 10).contains(&at);
            prop_assert_eq!(unpacked(&other).is_ok(), content || at >= tar.len());
        }

        #[test]
        fn any_octets_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = unpacked(&octets);
        }
    }
}
