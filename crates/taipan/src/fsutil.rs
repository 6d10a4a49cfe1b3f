//! Output files that appear whole or not at all.

#[cfg(test)]
pub(crate) mod test_dir;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};

/// A file under construction: written beside its final place under a temporary name, moved there by
/// [`AtomicFile::commit`], removed if it is dropped before that.
///
/// Where the destination exists and is no regular file (a device, a pipe), there is nothing to replace and bytes go
/// straight to it.
#[derive(Debug)]
pub struct AtomicFile {
    target: PathBuf,
    /// `None` for a destination that is written directly, and once the file is committed.
    temporary: Option<PathBuf>,
    writer: BufWriter<File>,
}

impl AtomicFile {
    /// Begins a file that will be at `path`.
    ///
    /// # Errors
    /// `Io` if its folder cannot be written to.
    pub fn create(path: &Path) -> Result<AtomicFile> {
        // Through a symbolic link the file it points to is replaced, not the link.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let fail = |e| Error::io("write", path, e);
        match fs::metadata(&target) {
            Ok(meta) if meta.is_dir() => Err(fail(io::ErrorKind::IsADirectory.into())),
            Ok(meta) if !meta.is_file() => {
                let file = File::options().write(true).open(&target).map_err(fail)?;
                Ok(AtomicFile { target, temporary: None, writer: BufWriter::new(file) })
            }
            existing => {
                let (temporary, file) = create_beside(&target).map_err(fail)?;
                if let Ok(meta) = existing {
                    // A private file stays private. Where this fails, the new file has the usual permissions.
                    let _ = file.set_permissions(meta.permissions());
                }
                let writer = BufWriter::new(file);
                Ok(AtomicFile { target, temporary: Some(temporary), writer })
            }
        }
    }

    /// Moves the finished file to its place, replacing what was there.
    ///
    /// # Errors
    /// `Io` if the last bytes cannot be written, or the file cannot be moved; the destination is then as it was.
    pub fn commit(mut self) -> Result<()> {
        self.finish().map_err(|e| Error::io("write", &self.target, e))
    }

    fn finish(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        let Some(temporary) = &self.temporary else { return Ok(()) };
        // Some systems report a full disk only here.
        self.writer.get_ref().sync_all()?;
        fs::rename(temporary, &self.target)?;
        self.temporary = None;
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            // Nothing can be done about a failure, and the first error is the one to report.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// A folder under construction: filled beside its final place under a temporary name, moved there by [`AtomicDir::commit`],
/// removed with all that is in it if it is dropped before that.
#[derive(Debug)]
pub struct AtomicDir {
    target: PathBuf,
    temporary: Option<PathBuf>,
}

impl AtomicDir {
    /// Begins a folder that will be at `path`, where nothing is yet.
    ///
    /// # Errors
    /// `Io` if there is something, or the folder around it cannot be written to.
    pub fn create(path: &Path) -> Result<AtomicDir> {
        let fail = |e| Error::io("create", path, e);
        if fs::symlink_metadata(path).is_ok() {
            return Err(fail(io::ErrorKind::AlreadyExists.into()));
        }
        let (temporary, ()) = beside(path, |name| fs::create_dir(name)).map_err(fail)?;
        Ok(AtomicDir { target: path.to_owned(), temporary: Some(temporary) })
    }

    /// Where to write its files.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.temporary.as_deref().unwrap_or(&self.target)
    }

    /// Moves the finished folder to its place.
    ///
    /// # Errors
    /// `Io` if something has come there meanwhile, or it cannot be moved.
    pub fn commit(mut self) -> Result<()> {
        let fail = |e| Error::io("create", &self.target, e);
        if fs::symlink_metadata(&self.target).is_ok() {
            return Err(fail(io::ErrorKind::AlreadyExists.into()));
        }
        fs::rename(self.path(), &self.target).map_err(fail)?;
        self.temporary = None;
        Ok(())
    }
}

impl Drop for AtomicDir {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            // As for a file.
            let _ = fs::remove_dir_all(temporary);
        }
    }
}

/// Creates a new file in the folder of `target`, under a name that nobody else has.
fn create_beside(target: &Path) -> io::Result<(PathBuf, File)> {
    beside(target, |name| File::options().write(true).create_new(true).open(name))
}

/// Creates something new beside `target`, under a name that nobody else has.
fn beside<T>(target: &Path, create: impl Fn(&Path) -> io::Result<T>) -> io::Result<(PathBuf, T)> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    loop {
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{count}.part", std::process::id()));
        let temporary = target.with_file_name(temporary);
        match create(&temporary) {
            Ok(created) => return Ok((temporary, created)),
            // Left by a process that was killed; the next number is free sooner or later.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsutil::test_dir::TestDir;

    fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let mut file = AtomicFile::create(path)?;
        write(&mut file).map_err(|e| Error::io("write", path, e))?;
        file.commit()
    }

    #[test]
    fn a_file_appears_whole() {
        let dir = TestDir::new();
        let path = dir.join("out");
        for text in ["first", "second, longer"] {
            write_atomically(&path, |w| {
                w.write_all(text.as_bytes())?;
                assert_eq!(dir.names().len(), if text == "first" { 1 } else { 2 });
                Ok(())
            })
            .unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(dir.names(), ["out"]);
    }

    #[test]
    fn nothing_is_left_of_a_failure() {
        let dir = TestDir::new();
        let path = dir.write("out", "old");
        let error = write_atomically(&path, |w| {
            w.write_all(&[0; 100_000])?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert!(error.to_string().starts_with("cannot write "), "{error}");
        assert!(error.to_string().contains("out"), "{error}");
        assert!(error.hint().unwrap().contains("free some space"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        drop(AtomicFile::create(&path).unwrap());
        let unwound = std::panic::catch_unwind(|| write_atomically(&path, |_| panic!("in the middle")));
        assert!(unwound.is_err());
        assert_eq!(dir.names(), ["out"]);
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let dir = TestDir::new();
        let out = dir.join("out");
        let begin = || {
            let folder = AtomicDir::create(&out)?;
            fs::write(folder.path().join("file"), "x").map_err(|e| Error::io("write", folder.path(), e))?;
            assert!(!out.exists());
            Ok::<_, Error>(folder)
        };
        drop(begin().unwrap());
        assert_eq!(dir.names(), [""; 0]);
        begin().unwrap().commit().unwrap();
        assert_eq!(fs::read_to_string(out.join("file")).unwrap(), "x");
        // What is there stays as it is, whenever it came.
        assert_eq!(AtomicDir::create(&out).unwrap_err().code(), "io");
        fs::rename(&out, dir.join("other")).unwrap();
        let late = begin().unwrap();
        dir.write("out", "mine");
        assert!(late.commit().unwrap_err().to_string().contains("out"));
        assert_eq!((dir.names().len(), fs::read_to_string(&out).unwrap()), (2, "mine".to_owned()));
        assert_eq!(AtomicDir::create(&dir.join("no/folder")).unwrap_err().code(), "io");
    }

    #[test]
    fn impossible_places_are_errors() {
        let dir = TestDir::new();
        for path in [dir.join("no/folder/out"), dir.to_path_buf(), PathBuf::new(), dir.join("..")] {
            let error = write_atomically(&path, |_| Ok(())).unwrap_err();
            assert_eq!(error.code(), "io", "{}", path.display());
        }
        assert_eq!(dir.names(), [""; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_permissions_kept() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = TestDir::new();
        let path = dir.write("real", "old");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&path, dir.join("link")).unwrap();
        write_atomically(&dir.join("link"), |w| w.write_all(b"new")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_symlink());
    }

    /// `/dev/full` refuses every byte as a full disk does; a device must also survive being written to.
    #[cfg(target_os = "linux")]
    #[test]
    fn devices_are_written_and_not_replaced() {
        use std::os::unix::fs::FileTypeExt;
        let error = write_atomically(Path::new("/dev/full"), |w| w.write_all(b"x")).unwrap_err();
        assert!(error.hint().unwrap().contains("free some space"), "{error}");
        write_atomically(Path::new("/dev/null"), |w| w.write_all(b"x")).unwrap();
        for device in ["/dev/full", "/dev/null"] {
            assert!(fs::metadata(device).unwrap().file_type().is_char_device());
        }
    }
}
