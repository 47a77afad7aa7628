//! The names of users and groups on this machine.

use std::collections::BTreeMap;

use crate::archive::Owner;
use crate::client::accounts::{self, Account};

/// The names by their numbers.
#[derive(Debug, Default)]
pub(super) struct Owners {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Owners {
    pub(super) fn read() -> Self {
        Self { users: by_number(accounts::users()), groups: by_number(accounts::groups()) }
    }

    pub(super) fn user(&self, id: u32) -> Owner {
        Owner { id, name: self.users.get(&id).cloned() }
    }

    pub(super) fn group(&self, id: u32) -> Owner {
        Owner { id, name: self.groups.get(&id).cloned() }
    }
}

fn by_number(accounts: Vec<Account>) -> BTreeMap<u32, String> {
    // The first of several with one number counts, so it comes last here.
    accounts.into_iter().rev().map(|(name, number)| (number, name)).collect()
}
