//! What a user can choose about the metadata of a directory that is restored.

/// Which owners restored files get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreOwners {
    /// The user who restores them.
    None,
    /// Those of the archive, by name where this machine has the name, else by number.
    ByName,
    /// Those of the archive, by number.
    ByNumber,
}

/// Which metadata of a directory is restored, besides modes, times and links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Owners.
    pub owners: RestoreOwners,
    /// Extended attributes, with access control lists and capabilities.
    pub xattrs: bool,
}

impl RestoreOptions {
    /// Text that differs if the options do. The state of an unfinished directory has it.
    pub(in crate::client) fn to_text(self) -> String {
        let owners = match self.owners {
            RestoreOwners::None => "no owners",
            RestoreOwners::ByName => "owners by name",
            RestoreOwners::ByNumber => "owners by number",
        };
        format!("{owners}, {}", if self.xattrs { "attributes" } else { "no attributes" })
    }
}

impl Default for RestoreOptions {
    /// Everything, if the user may set it.
    fn default() -> Self {
        let is_root = is_root();
        Self { owners: if is_root { RestoreOwners::ByName } else { RestoreOwners::None }, xattrs: is_root }
    }
}

fn is_root() -> bool {
    #[cfg(unix)]
    return rustix::process::geteuid().is_root();
    #[cfg(not(unix))]
    return false;
}
