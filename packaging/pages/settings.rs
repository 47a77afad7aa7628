//! The settings, as `packaging/node.toml` tells them: comments, each block of them above its setting or by itself.

use std::mem;

/// Every setting of the library stands there: a test of `cellsync::config` holds the two together.
const SHIPPED: &str = include_str!("../node.toml");

pub(super) struct Settings {
    pub(super) entries: Vec<Entry>,
}

pub(super) enum Entry {
    /// A word about the settings that follow.
    Remark(String),
    Setting {
        key: &'static str,
        /// The value that is shown with it.
        example: &'static str,
        about: String,
    },
}

impl Settings {
    pub(super) fn shipped() -> Self {
        let (mut entries, mut comment) = (Vec::new(), Vec::new());
        for line in SHIPPED.lines().chain([""]) {
            if let Some(setting) = line.strip_prefix("#: ") {
                let Some((key, example)) = setting.split_once(" = ") else {
                    panic!("node.toml: {setting} is no setting");
                };
                entries.push(Entry::Setting { key, example, about: mem::take(&mut comment).join(" ") });
            } else if let Some(text) = line.strip_prefix("# ") {
                comment.push(text);
            } else {
                assert!(line.is_empty(), "node.toml: {line} is neither a comment nor a setting behind one");
                if !comment.is_empty() {
                    entries.push(Entry::Remark(mem::take(&mut comment).join(" ")));
                }
            }
        }
        // The first is about the file, which the page is not.
        assert!(matches!(entries.first(), Some(Entry::Remark(_))), "node.toml begins with what it is");
        entries.remove(0);
        Self { entries }
    }

    /// Each setting's key, and what it does.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Setting { key, about, .. } => Some((*key, about.as_str())),
            Entry::Remark(_) => None,
        })
    }
}
