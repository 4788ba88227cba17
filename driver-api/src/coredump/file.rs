//! The file of a dump: under another name until it is whole, compressed if that is wanted.
//!
//! *Rules:* nobody finds half a dump under its name; what is given up is removed; it is its owner's alone to read, since all that the device's memory held is in it. What is no file of a
//! directory (a pipe, a file in memory) is written where it is.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::OFlags;

enum Writer {
    Plain(File),
    /// Cannot leave holes: a pipe.
    Stream(File),
    Compressed(Box<GzEncoder<File>>),
}

/// A dump that is being written. Dropped before [`DumpFile::finish`], it leaves nothing.
pub struct DumpFile {
    writer: Option<Writer>,
    path: PathBuf,
    /// The name until it is whole.
    temporary: Option<PathBuf>,
}

impl std::fmt::Debug for DumpFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DumpFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl DumpFile {
    /// Begins a file.
    ///
    /// # Errors
    /// The operating system's.
    pub fn create(path: &Path, is_compressed: bool) -> io::Result<Self> {
        let there = std::fs::metadata(path).ok();
        let in_place = there
            .as_ref()
            .is_some_and(|it| !it.is_file() || it.nlink() == 0);
        if in_place {
            // A pipe that nobody reads is an error, and no wait.
            let flags = OFlags::NONBLOCK.bits().cast_signed();
            let mut options = OpenOptions::new();
            let file = options
                .write(true)
                .truncate(true)
                .custom_flags(flags)
                .open(path)?;
            let status = rustix::fs::fcntl_getfl(&file)?;
            rustix::fs::fcntl_setfl(&file, status & !OFlags::NONBLOCK)?;
            let is_file = there.is_some_and(|it| it.is_file());
            return Ok(Self::new(
                file,
                path.to_owned(),
                None,
                is_compressed,
                is_file,
            ));
        }
        // Where a link leads to, not the link, is replaced.
        let path = match there {
            Some(_) => std::fs::canonicalize(path)?,
            None => path.to_owned(),
        };
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
        name.push(format!(".{}", std::process::id()));
        let temporary = path.with_file_name(name);
        // What a process of this number has left there before.
        let _ = std::fs::remove_file(&temporary);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        Ok(Self::new(file, path, Some(temporary), is_compressed, true))
    }

    fn new(
        file: File,
        path: PathBuf,
        temporary: Option<PathBuf>,
        is_compressed: bool,
        is_file: bool,
    ) -> Self {
        let writer = match (is_compressed, is_file) {
            (true, _) => Writer::Compressed(Box::new(GzEncoder::new(file, Compression::fast()))),
            (false, true) => Writer::Plain(file),
            (false, false) => Writer::Stream(file),
        };
        Self {
            writer: Some(writer),
            path,
            temporary,
        }
    }

    /// Appends zeros, as a hole where there can be one.
    ///
    /// # Errors
    /// The operating system's.
    pub fn zeros(&mut self, count: u64) -> io::Result<()> {
        if let Some(Writer::Plain(file)) = &mut self.writer {
            let offset = i64::try_from(count).map_err(io::Error::other)?;
            file.seek(SeekFrom::Current(offset))?;
            return Ok(());
        }
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut left = count;
        while left > 0 {
            let piece = left.min(ZEROS.len() as u64);
            self.write_all(&ZEROS[..piece as usize])?;
            left -= piece;
        }
        Ok(())
    }

    /// Gives the whole file its name.
    ///
    /// # Errors
    /// The operating system's.
    pub fn finish(mut self) -> io::Result<()> {
        match self.writer.take() {
            Some(Writer::Plain(mut file)) => {
                // It may end in a hole.
                let end = file.stream_position()?;
                if file.metadata()?.len() < end {
                    file.set_len(end)?;
                }
            }
            Some(Writer::Compressed(encoder)) => drop(encoder.finish()?),
            Some(Writer::Stream(_)) | None => {}
        }
        if let Some(temporary) = &self.temporary {
            std::fs::rename(temporary, &self.path)?;
            self.temporary = None;
        }
        Ok(())
    }
}

impl Write for DumpFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.writer {
            Some(Writer::Plain(file) | Writer::Stream(file)) => file.write(bytes),
            Some(Writer::Compressed(encoder)) => encoder.write(bytes),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for DumpFile {
    fn drop(&mut self) {
        // Before a compressor is dropped, which would still write.
        if let Some(temporary) = &self.temporary {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// Bytes of an ELF header.
pub const HEADER_BYTES: usize = 64;

/// Whether a file of so many bytes that begins so is a whole ELF file: its table of sections, which stands behind them, is there.
#[must_use]
pub fn is_complete(header: &[u8; HEADER_BYTES], size: u64) -> bool {
    let number = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let mut offset = [0; 8];
    offset.copy_from_slice(&header[40..48]);
    let offset = u64::from_le_bytes(offset);
    let table = u64::from(number(58)) * u64::from(number(60));
    let end = offset.checked_add(table);
    header.starts_with(b"\x7fELF\x02\x01")
        && offset != 0
        && table != 0
        && end.is_some_and(|end| end <= size)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("gpurun-dump-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("made");
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder").flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn a_file_is_there_once_it_is_whole() {
        let folder = folder("whole");
        let path = folder.join("core");
        let mut file = DumpFile::create(&path, false).expect("begun");
        file.write_all(b"abc").expect("written");
        file.zeros(5000).expect("skipped");
        assert!(!path.exists());
        file.finish().expect("finished");
        let bytes = std::fs::read(&path).expect("there");
        assert_eq!((bytes.len(), &bytes[..4]), (5003, &b"abc\0"[..]));
        assert_eq!(names(&folder), ["core"]);
        let mode = std::fs::metadata(&path).expect("there").mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let folder = folder("nothing");
        for is_compressed in [false, true] {
            let mut file = DumpFile::create(&folder.join("core"), is_compressed).expect("begun");
            file.write_all(&[7; 10_000]).expect("written");
            drop(file);
            assert!(names(&folder).is_empty());
        }
        assert!(DumpFile::create(&folder.join("no/such/core"), false).is_err());
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_compressed_file_holds_the_same() {
        let folder = folder("compressed");
        let path = folder.join("core.gz");
        let mut file = DumpFile::create(&path, true).expect("begun");
        file.write_all(b"abc").expect("written");
        file.zeros(100_000).expect("written");
        file.finish().expect("finished");
        let packed = std::fs::read(&path).expect("there");
        assert!(packed.len() < 10_000);
        let mut bytes = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&*packed);
        decoder.read_to_end(&mut bytes).expect("a gzip file");
        assert_eq!((bytes.len(), &bytes[..4]), (100_003, &b"abc\0"[..]));
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_file_in_memory_is_written_where_it_is() {
        use std::os::fd::AsRawFd;
        let memory = rustix::fs::memfd_create("dump", rustix::fs::MemfdFlags::CLOEXEC);
        let memory = memory.expect("made");
        let path = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
        let mut file = DumpFile::create(&path, false).expect("begun");
        file.write_all(b"abc").expect("written");
        file.zeros(10).expect("skipped");
        file.finish().expect("finished");
        let size = rustix::fs::fstat(&memory).expect("known").st_size;
        assert_eq!(size, 13);
    }

    #[test]
    fn a_pipe_without_a_reader_is_an_error() {
        let folder = folder("pipe");
        let path = folder.join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).expect("made");
        assert!(DumpFile::create(&path, false).is_err());
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_whole_file_has_its_sections() {
        let mut header = [0; HEADER_BYTES];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert!(!is_complete(&header, 1000));
        header[40..48].copy_from_slice(&500_u64.to_le_bytes());
        header[58] = 64;
        header[60] = 3;
        assert!(!is_complete(&header, 500 + 191));
        assert!(is_complete(&header, 500 + 192));
        header[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(!is_complete(&header, 1000));
    }
}
