//! The files: where they are, and reading them.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::cli::client_config::error::ClientConfigError;

/// The file of all users of a machine.
#[cfg(unix)]
const SYSTEM_FILE: &str = "/etc/cellsync/client.toml";

/// The longest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The files, the ones that prevail last.
pub(super) fn paths() -> Vec<PathBuf> {
    #[cfg(unix)]
    let system = Some(PathBuf::from(SYSTEM_FILE));
    #[cfg(not(unix))]
    let system = None;
    system.into_iter().chain(user_file(env::var_os("XDG_CONFIG_HOME"), env::var_os("HOME"))).collect()
}

/// The user's file, by the XDG Base Directory Specification: relative paths in the variable are invalid, and ignored.
fn user_file(config_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let folder = config_home.and_then(absolute).or_else(|| Some(home.and_then(absolute)?.join(".config")))?;
    Some(folder.join("cellsync/client.toml"))
}

/// The text of a file; `None` if there is no file, or its folder must not be searched.
pub(super) fn read(path: &Path) -> Result<Option<String>, ClientConfigError> {
    let unreadable = |source| ClientConfigError::Unreadable { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        // The home of another user, as `sudo -u` may leave it: what is there is not this user's.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && path.symlink_metadata().is_err() => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ClientConfigError::TooLong { path: path.to_owned(), max_bytes: MAX_BYTES });
    }
    let text = String::from_utf8(bytes).map_err(|error| unreadable(io::Error::new(ErrorKind::InvalidData, error)))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_where_xdg_has_it() {
        let file = |config_home: Option<&str>, home: Option<&str>| {
            user_file(config_home.map(OsString::from), home.map(OsString::from))
        };
        let in_home = Some(PathBuf::from("/home/a/.config/cellsync/client.toml"));
        assert_eq!(file(Some("/x"), Some("/home/a")), Some(PathBuf::from("/x/cellsync/client.toml")));
        for config_home in [None, Some(""), Some("relative")] {
            assert_eq!(file(config_home, Some("/home/a")), in_home);
        }
        assert_eq!(file(None, None), None);
        assert_eq!(file(None, Some("")), None);
    }

    #[test]
    fn an_absent_file_is_none_and_others_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.toml");
        assert_eq!(read(&path).unwrap(), None);
        std::fs::write(&path, "copies = 3").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("copies = 3"));
        assert_eq!(read(&path.join("below")).unwrap(), None);
        let error = |path: &Path| read(path).unwrap_err().to_string();
        assert!(error(folder.path()).contains("cannot read"));
        std::fs::write(&path, b"copies = 3 # \xff").unwrap();
        assert!(error(&path).contains("utf-8"), "{}", error(&path));
        File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(error(&path).contains("longer than 1048576 bytes"));
    }

    /// A user has the home of another one in the environment: `sudo -u`, `su`.
    #[cfg(unix)]
    #[test]
    fn a_folder_that_must_not_be_searched_has_no_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.toml");
        std::fs::write(&path, "copies = 3").unwrap();
        let set_mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        set_mode(&path, 0o000);
        if File::open(&path).is_ok() {
            eprintln!("NOT RUN: a_folder_that_must_not_be_searched_has_no_file: root may read everything");
            return;
        }
        assert!(read(&path).unwrap_err().to_string().contains("cannot read"));
        set_mode(folder.path(), 0o000);
        assert_eq!(read(&path).unwrap(), None);
        set_mode(folder.path(), 0o700);
    }
}
