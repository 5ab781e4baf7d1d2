//! Lines of a file, or of standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::failure::CliFailure;

/// Lines that a command takes, each up to a limit.
pub(crate) struct InputLines {
    lines: Box<dyn BufRead + Send>,
    /// Bytes of the file; 0 if nobody knows.
    pub(crate) bytes: u64,
}

impl InputLines {
    /// Opens a file; `-` is standard input.
    pub(crate) fn open(path: &Path) -> Result<Self, CliFailure> {
        if path == Path::new("-") {
            return Ok(Self { lines: Box::new(BufReader::new(io::stdin())), bytes: 0 });
        }
        let said = |error: io::Error| CliFailure::Failed(format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(said)?;
        let bytes = file.metadata().map_err(said)?.len();
        Ok(Self { lines: Box::new(BufReader::with_capacity(1 << 20, file)), bytes })
    }

    /// Reads the next line, without its line feed, and returns how many bytes were read; 0 at the
    /// end. Of a line beyond the limit one byte more than that is there.
    pub(crate) fn next(&mut self, line: &mut Vec<u8>, bytes_max: usize) -> io::Result<u64> {
        line.clear();
        let mut limited = (&mut self.lines).take(bytes_max as u64 + 1);
        let read = limited.read_until(b'\n', line)? as u64;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(read)
    }
}
