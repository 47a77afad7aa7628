//! The numbers of users and groups on this machine, by name.

use std::collections::BTreeMap;

use crate::archive::Owner;
use crate::client::accounts::{self, Account};

/// The numbers by the names.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Accounts {
    pub(super) fn read() -> Self {
        Self { users: by_name(accounts::users()), groups: by_name(accounts::groups()) }
    }

    /// The user's number here: by name if this machine has the name, else as it is.
    pub(super) fn user(&self, owner: &Owner) -> u32 {
        number(&self.users, owner)
    }

    /// The same for a group.
    pub(super) fn group(&self, owner: &Owner) -> u32 {
        number(&self.groups, owner)
    }
}

fn by_name(accounts: Vec<Account>) -> BTreeMap<String, u32> {
    // The first of several with one name counts, so it comes last here.
    accounts.into_iter().rev().collect()
}

fn number(names: &BTreeMap<String, u32>, owner: &Owner) -> u32 {
    owner.name.as_ref().and_then(|name| names.get(name)).copied().unwrap_or(owner.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_known_by_name_or_else_by_number() {
        let users = by_name(vec![("bob".to_owned(), 7), ("bob".to_owned(), 8)]);
        let accounts = Accounts { users, groups: BTreeMap::new() };
        let owner = |name: Option<&str>| Owner { id: 5, name: name.map(ToOwned::to_owned) };
        assert_eq!(accounts.user(&owner(Some("bob"))), 7);
        assert_eq!(accounts.user(&owner(Some("alice"))), 5);
        assert_eq!(accounts.user(&owner(None)), 5);
        assert_eq!(accounts.group(&owner(Some("bob"))), 5);
    }
}
