//! A conversation as a file: `TAIPANCH`, format version (u32), length of the log (u32), log (JSON), the session's state,
//! SHA-256 of all that.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use taipan::fsutil::AtomicFile;

use super::conversation::{Log, Mark};
use crate::failure::{Failure, Result};

const MAGIC: &[u8; 8] = b"TAIPANCH";
const VERSION: u32 = 1;
const PREFIX: usize = 16;
const HASH: usize = 32;

#[derive(Serialize, Deserialize)]
struct Header {
    log: Log,
    turns: Vec<Mark>,
}

/// Writes the file, which appears when it is complete.
pub(super) fn write(path: &Path, log: Log, turns: Vec<Mark>, state: &[u8]) -> Result<()> {
    let header = serde_json::to_vec(&Header { log, turns }).expect("a log is plain data");
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((header.len() as u32).to_le_bytes());
    bytes.extend(header);
    bytes.extend(state);
    let hash = Sha256::digest(&bytes);
    bytes.extend(hash);
    let mut file = AtomicFile::create(path)?;
    let written = file.write_all(&bytes);
    written.map_err(|source| taipan::Error::Io { action: "write", path: path.to_owned(), source })?;
    Ok(file.commit()?)
}

/// Reads log, turns and state.
pub(super) fn read(path: &Path) -> Result<(Log, Vec<Mark>, Vec<u8>)> {
    let bytes = std::fs::read(path).map_err(|source| Failure::read(path, source))?;
    parse(&bytes).map_err(|problem| Failure::Input {
        message: format!("{}: {problem}", path.display()),
        hint: "only what /save wrote can be loaded".to_owned(),
    })
}

fn parse(bytes: &[u8]) -> Result<(Log, Vec<Mark>, Vec<u8>), String> {
    if !bytes.starts_with(MAGIC) || bytes.len() < PREFIX + HASH {
        return Err("not a conversation".to_owned());
    }
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    if word(8) != VERSION {
        return Err(format!("a conversation of format {}, this program knows {VERSION}", word(8)));
    }
    let (body, hash) = bytes.split_at(bytes.len() - HASH);
    if Sha256::digest(body)[..] != *hash {
        return Err("it is damaged or cut short".to_owned());
    }
    let (header, state) = body[PREFIX..].split_at_checked(word(12) as usize).ok_or("its log is cut short")?;
    let Header { log, turns } = serde_json::from_slice(header).map_err(|e| format!("its log: {e}"))?;
    Ok((log, turns, state.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let path = std::env::temp_dir().join(format!("taipan-chat-{}", std::process::id()));
        let log = Log { messages: vec![("user".to_owned(), "Hi".to_owned())], ..Log::default() };
        write(&path, log.clone(), vec![Mark::default()], b"state").expect("the folder is writable");
        assert_eq!(read(&path).expect("it is whole"), (log, vec![Mark::default()], b"state".to_vec()));
        let bytes = std::fs::read(&path).expect("it is there");
        std::fs::remove_file(&path).expect("it is there");
        assert!(parse(&bytes).is_ok());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(parse(&damaged).is_err(), "byte {at}");
            assert!(parse(&bytes[..at]).is_err(), "{at} bytes");
        }
    }
}
