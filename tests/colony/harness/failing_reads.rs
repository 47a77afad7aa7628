//! A disk that cannot be read for a while, as behind a loose cable: reads of chunk files fail with EIO.
//!
//! Method: a library that is loaded before libc replaces the system calls that read. It is compiled from
//! `failing_reads.c`; without a C compiler the tests print that they are skipped and pass.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// Makes the reads of one process fail.
pub(crate) struct FailingReads {
    folder: TempDir,
}

impl FailingReads {
    /// Compiles the library; `None` if that is not possible here.
    pub(crate) fn new() -> Option<Self> {
        let reads = Self { folder: tempfile::tempdir().unwrap() };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/colony/harness/failing_reads.c");
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", source, "-ldl", "-o"]).arg(reads.library()).output();
        match compiled {
            Ok(output) if output.status.success() => Some(reads),
            Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
            Err(why) => {
                eprintln!("skipped: no C compiler ({why})");
                None
            }
        }
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("failing_reads.so")
    }

    /// While this file exists, the reads fail.
    fn flag(&self) -> PathBuf {
        self.folder.path().join("fail")
    }

    /// The words before the program's name.
    pub(crate) fn prefix(&self) -> Vec<String> {
        let (library, flag) = (self.library(), self.flag());
        let set = |name: &str, path: &PathBuf| format!("{name}={}", path.display());
        vec!["env".to_owned(), set("LD_PRELOAD", &library), set("CELLSYNC_TEST_FAILING_READS", &flag)]
    }

    /// From now on reads of chunk files fail.
    pub(crate) fn begin(&self) {
        fs::write(self.flag(), "").unwrap();
    }

    /// From now on they succeed.
    pub(crate) fn end(&self) {
        fs::remove_file(self.flag()).unwrap();
    }
}
