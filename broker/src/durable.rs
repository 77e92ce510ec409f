//! Small files that must survive a power loss: written aside, synced, renamed, directory synced.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use minisr_wire::checksum::crc32c;

/// Replaces the file at `path` by `bytes`, so that a crash leaves the old content or the new, never a mixture.
///
/// # Errors
/// What the system says; the old content then still stands.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&aside, path)?;
    sync_directory_of(path)
}

/// Removes the file at `path` durably; none there is fine.
///
/// # Errors
/// What the system says.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory_of(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The whole file, or `None` when there is none.
///
/// # Errors
/// What the system says.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes names in the directory that holds `path` durable.
///
/// # Errors
/// What the system says.
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// `bytes` behind a header that tells whether they are whole.
#[must_use]
pub fn seal(magic: [u8; 4], bytes: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(8 + bytes.len());
    sealed.extend_from_slice(&magic);
    sealed.extend_from_slice(&crc32c(bytes).to_be_bytes());
    sealed.extend_from_slice(bytes);
    sealed
}

/// What [`seal`] covered.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] when the bytes are not what was sealed.
pub fn unseal(magic: [u8; 4], sealed: &[u8]) -> io::Result<&[u8]> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let (head, bytes) = sealed.split_first_chunk::<8>().ok_or_else(|| invalid("the file is too short"))?;
    if head[..4] != magic {
        return Err(invalid("the file is of another kind"));
    }
    if head[4..] != crc32c(bytes).to_be_bytes() {
        return Err(invalid("the checksum does not match"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_come_back_and_damage_is_noticed() {
        let mut sealed = seal(*b"test", b"content");
        assert_eq!(unseal(*b"test", &sealed).expect("whole"), b"content");
        assert!(unseal(*b"else", &sealed).is_err());
        sealed[9] ^= 1;
        assert!(unseal(*b"test", &sealed).is_err());
        assert!(unseal(*b"test", b"te").is_err());
    }

    #[test]
    fn files_are_replaced_and_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("small");
        assert_eq!(read(&path).expect("readable"), None);
        replace(&path, b"one").expect("written");
        replace(&path, b"two").expect("written");
        assert_eq!(read(&path).expect("readable").as_deref(), Some(b"two".as_slice()));
        remove(&path).expect("removed");
        remove(&path).expect("nothing to remove is fine");
    }
}
