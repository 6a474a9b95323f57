//! Reads input files within limits and writes output files whole or not at all.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Problem, Result};

/// The largest text file that is read whole. Far above any plan; a wrong path to a checkpoint stops here.
const MAX_TEXT: u64 = 512 << 20;

/// Reads a text file.
pub fn read_text(path: &Path) -> Result<String> {
    let file = path.display().to_string();
    let failed = |source| Error::Read { file: file.clone(), source };
    let mut text = Vec::new();
    let opened = File::open(path).map_err(failed)?;
    opened.take(MAX_TEXT + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_TEXT {
        let expected = format!("at most {} MiB of text", MAX_TEXT >> 20);
        return Err(Error::input(file, Problem::new("size", "more", expected)));
    }
    String::from_utf8(text).map_err(|error| {
        let place = format!("byte {}", error.utf8_error().valid_up_to());
        Error::input(path.display().to_string(), Problem::new(place, "no UTF-8", "text in UTF-8"))
    })
}

/// Writes a file whole or not at all: to a temporary neighbour first, then renamed. Makes missing folders.
///
/// A link is followed, an existing file keeps its mode, and what is no regular file (a device, a pipe) is written
/// through, never replaced.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    let failed = |source| Error::Write { file: path.display().to_string(), source };
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let path = target.as_path();
    let existing = fs::metadata(path).ok();
    if existing.as_ref().is_some_and(|there| !there.is_file() && !there.is_dir()) {
        let opened = File::options().write(true).open(path);
        return opened.and_then(|mut file| file.write_all(contents)).map_err(failed);
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let temporary = neighbour(path);
    let written = File::create(&temporary)
        .and_then(|mut file| {
            if let Some(there) = &existing {
                file.set_permissions(there.permissions())?;
            }
            file.write_all(contents)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed(error)
    })
}

/// A name beside `path` that no other process of ours uses, and that is short however long its name is.
fn neighbour(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem: String = name.chars().take(40).collect();
    path.with_file_name(format!("{stem}.{}.tmp", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_modes_kept() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode");
        symlink(&file, &link).expect("a link");
        write_file(&link, b"new").expect("written");
        assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
        assert_eq!(fs::read(&file).expect("the file"), b"new");
        assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_written_through() {
        let null = Path::new("/dev/null");
        write_file(null, b"gone").expect("written");
        assert!(!fs::metadata(null).expect("still there").is_file());
    }

    #[test]
    fn long_names_are_written_and_folders_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        write_file(&folder.path().join("n".repeat(250)), b"x").expect("written");
        assert!(write_file(folder.path(), b"x").is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1);
    }
}
