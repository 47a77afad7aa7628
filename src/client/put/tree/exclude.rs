//! Patterns of what a put leaves out of a directory.
//!
//! | pattern | what it matches |
//! |---|---|
//! | `*.o` | any file or directory whose name matches, at any depth |
//! | `target/debug` | the same for a path of several names |
//! | `/build`, `./build` | only `build` at the top of the stored directory |
//! | `cache/` | only directories |
//! | `**` | any number of directories, none included: `/src/**/tests` |
//!
//! `*` and `?` match no `/`, and they match a leading dot. `?` and `[…]` match one byte, `{a,b}` either part, `\` takes
//! the meaning from the next character. Upper and lower case differ. A directory that is left out is not entered.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::client::error::{ClientError, FileAction};
use crate::client::usage_error::UsageError;

/// Maximum size of a file of patterns, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The patterns of a put.
#[derive(Debug, Clone)]
pub(in crate::client) struct Patterns {
    /// Those that match files and directories.
    any: GlobSet,
    /// Those that match directories only.
    directories: GlobSet,
}

impl Patterns {
    /// Compiles patterns. The error names the first that is invalid.
    pub(in crate::client) fn new(patterns: &[String]) -> Result<Self, UsageError> {
        let (mut any, mut directories) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let invalid =
            |pattern: &String, reason: String| UsageError::InvalidPattern { pattern: pattern.clone(), reason };
        for pattern in patterns {
            if pattern.starts_with('!') {
                return Err(invalid(pattern, "it cannot be negated; write \\! for a name that begins with !".into()));
            }
            let (path, set) = match pattern.strip_suffix('/') {
                Some(path) => (path, &mut directories),
                None => (pattern.as_str(), &mut any),
            };
            // A pattern without a slash at its beginning matches at any depth.
            let from_top = path.strip_prefix("./").or_else(|| path.strip_prefix('/'));
            let whole = from_top.map_or_else(|| format!("**/{path}"), ToOwned::to_owned);
            if matches!(from_top.unwrap_or(path).trim_matches('/'), "" | ".") {
                return Err(invalid(pattern, "it names nothing".into()));
            }
            let glob = GlobBuilder::new(&whole).literal_separator(true).backslash_escape(true).build();
            set.add(glob.map_err(|error| invalid(pattern, error.kind().to_string()))?);
        }
        // Globs that are valid one by one are valid as a set, unless they are too large together.
        let build = |set: GlobSetBuilder| {
            set.build().map_err(|error| UsageError::InvalidPattern {
                pattern: error.glob().unwrap_or_default().to_owned(),
                reason: error.kind().to_string(),
            })
        };
        Ok(Self { any: build(any)?, directories: build(directories)? })
    }

    /// Is this path, relative to the stored directory, left out?
    pub(in crate::client) fn match_path(&self, path: &OsStr, is_directory: bool) -> bool {
        self.any.is_match(path) || is_directory && self.directories.is_match(path)
    }
}

/// Is this a valid pattern?
pub fn is_pattern(pattern: &str) -> bool {
    Patterns::new(&[pattern.to_owned()]).is_ok()
}

/// Reads patterns from a file, one on each line. Empty lines and lines that begin with `#` are ignored.
pub fn read_patterns(path: &Path) -> Result<Vec<String>, ClientError> {
    let file = File::open(path).map_err(ClientError::file(FileAction::Read, path))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(ClientError::file(FileAction::Read, path))?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.len() as u64 <= MAX_FILE_BYTES);
    let text = text.ok_or_else(|| UsageError::PatternFile { path: path.to_owned(), limit: MAX_FILE_BYTES })?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(ToOwned::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(pattern: &str, path: &str, is_directory: bool) -> bool {
        Patterns::new(&[pattern.to_owned()]).unwrap().match_path(OsStr::new(path), is_directory)
    }

    #[test]
    fn patterns_match_as_documented() {
        let cases = [
            // pattern, path, is it a directory, is it left out
            ("*.o", "a.o", false, true),
            ("*.o", "src/deep/a.o", false, true),
            ("*.o", "a.oo", false, false),
            ("*.o", ".o", false, true),
            ("*.o", "A.O", false, false),
            ("cache", "cache", true, true),
            ("cache", "a/cache", false, true),
            ("cache", "cached", true, false),
            ("cache/", "a/cache", true, true),
            ("cache/", "a/cache", false, false),
            ("/build", "build", true, true),
            ("/build", "a/build", true, false),
            ("/build/", "build", false, false),
            ("./build", "build", true, true),
            ("./build", "a/build", true, false),
            ("./a/*.o", "a/x.o", false, true),
            ("target/debug", "target/debug", true, true),
            ("target/debug", "a/target/debug", true, true),
            ("target/debug", "a/target", true, false),
            ("/a/*/b", "a/x/b", false, true),
            ("/a/*/b", "a/x/y/b", false, false),
            ("/a/**/b", "a/b", false, true),
            ("/a/**/b", "a/x/y/b", false, true),
            ("a/**", "x/a/b/c", false, true),
            ("a/**", "x/a", true, false),
            ("?", "x", false, true),
            ("[a-c]x", "bx", false, true),
            ("{one,two}", "two", false, true),
            ("\\*", "*", false, true),
            ("\\*", "x", false, false),
            ("\\#x", "#x", false, true),
            ("-rf", "-rf", false, true),
        ];
        for (pattern, path, is_directory, expected) in cases {
            assert_eq!(excludes(pattern, path, is_directory), expected, "{pattern} on {path}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn names_of_any_bytes_match() {
        use std::os::unix::ffi::OsStrExt;
        let patterns = Patterns::new(&["*.tmp".into(), "b?".into()]).unwrap();
        for name in [&b"\xff\xfe.tmp"[..], b"dir\xff/\n.tmp", b"b\xff"] {
            assert!(patterns.match_path(OsStr::from_bytes(name), false), "{}", name.escape_ascii());
        }
        assert!(!patterns.match_path(OsStr::from_bytes(b"b\xff\xff"), false));
    }

    #[test]
    fn an_invalid_pattern_is_named() {
        for pattern in ["[a", "{a", "", "/", "//", "./", ".//", "!keep", "a\\"] {
            let error = Patterns::new(&["fine".into(), pattern.into()]).unwrap_err();
            assert!(matches!(&error, UsageError::InvalidPattern { pattern: named, .. } if named == pattern), "{error}");
        }
    }

    #[test]
    fn a_file_of_patterns_has_comments_and_blank_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("patterns");
        assert!(matches!(read_patterns(&path), Err(ClientError::File { .. })));
        std::fs::write(&path, "# a comment\n\n*.o\r\n \\#x\ncache/\n").unwrap();
        assert_eq!(read_patterns(&path).unwrap(), ["*.o", " \\#x", "cache/"]);
        std::fs::write(&path, b"\xff").unwrap();
        assert!(matches!(read_patterns(&path), Err(ClientError::Usage(UsageError::PatternFile { .. }))));
    }
}
