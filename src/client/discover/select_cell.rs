//! One cell, as a user names it.

use crate::client::discover::colony::{ColonyScope, KnownCell};
use crate::client::discover::find_cells::find_cells;
use crate::client::error::{ClientError, UsageError};
use crate::net::client::{CallError, Http};
use crate::wire::beacon::{Role, Status};

/// Fewer digits of an id name nobody: they would soon be another's too.
const MIN_DIGITS: usize = 4;

/// How a cell is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CellSelector {
    /// By its URL, `http://HOST:PORT`.
    Url(String),
    /// By the first digits of its id, in lower case and without hyphens.
    IdPrefix(String),
}

impl CellSelector {
    /// Is this the beginning of an id?
    pub fn from_id_prefix(word: &str) -> Option<Self> {
        let digits: String = word.chars().filter(|c| *c != '-').collect();
        let is_id = (MIN_DIGITS..=32).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_hexdigit());
        is_id.then(|| Self::IdPrefix(digits.to_lowercase()))
    }
}

/// Finds the cell.
pub fn find_cell(http: &Http, scope: &ColonyScope, selector: &CellSelector) -> Result<KnownCell, ClientError> {
    match selector {
        CellSelector::Url(url) => at_door(http, url),
        CellSelector::IdPrefix(digits) => {
            let cells = find_cells(http, scope, usize::MAX)?;
            if cells.is_empty() { Err(ClientError::none_responding(scope, 0)) } else { Ok(choose(cells, digits)?) }
        }
    }
}

fn at_door(http: &Http, url: &str) -> Result<KnownCell, ClientError> {
    let url = url.trim_end_matches('/').to_owned();
    match http.status(&url) {
        Ok(status) => {
            let beacon = status.beacon;
            let (id, free_bytes) = (Some(beacon.node_id), beacon.free);
            Ok(KnownCell { url, id, role: beacon.role, status: beacon.status, free_bytes })
        }
        // An older server, or none at all: what is asked of it next will tell.
        Err(CallError::Refused { .. }) => {
            Ok(KnownCell { url, id: None, role: Role::Stem, status: Status::Active, free_bytes: None })
        }
        Err(error) => Err(error.into()),
    }
}

fn choose(cells: Vec<KnownCell>, digits: &str) -> Result<KnownCell, UsageError> {
    let begins = |cell: &KnownCell| cell.id.is_some_and(|id| id.to_string().replace('-', "").starts_with(digits));
    let (mut matching, others): (Vec<_>, Vec<_>) = cells.into_iter().partition(begins);
    let (prefix, names) = (digits.to_owned(), |cells: &[KnownCell]| cells.iter().map(KnownCell::name).collect());
    match (matching.pop(), matching.is_empty()) {
        (Some(cell), true) => Ok(cell),
        (Some(cell), false) => {
            matching.push(cell);
            Err(UsageError::AmbiguousCell { prefix, cells: names(&matching) })
        }
        (None, _) => Err(UsageError::UnknownCell { prefix, cells: names(&others) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::CellId;

    fn cells(ids: &[&str]) -> Vec<KnownCell> {
        let cell = |id: &&str| KnownCell {
            url: format!("http://{}", &id[..4]),
            id: Some(id.parse::<CellId>().unwrap()),
            role: Role::Stem,
            status: Status::Active,
            free_bytes: None,
        };
        ids.iter().map(cell).collect()
    }

    const A: &str = "3365a925-0000-4000-8000-000000000001";
    const B: &str = "3365a92f-0000-4000-8000-000000000002";

    #[test]
    fn four_hexadecimal_digits_or_more_are_the_beginning_of_an_id() {
        assert_eq!(CellSelector::from_id_prefix("3365A925"), Some(CellSelector::IdPrefix("3365a925".into())));
        assert_eq!(CellSelector::from_id_prefix("3365a925-0000"), Some(CellSelector::IdPrefix("3365a9250000".into())));
        for none in ["336", "pi4.local", "3365g", "", "----", &"0".repeat(33)] {
            assert_eq!(CellSelector::from_id_prefix(none), None, "{none}");
        }
    }

    #[test]
    fn the_one_cell_whose_id_begins_so_is_found_and_else_the_candidates_are_told() {
        assert_eq!(choose(cells(&[A, B]), "3365a925").unwrap().id.unwrap().to_string(), A);
        assert_eq!(choose(cells(&[A, B]), "3365a92f0000").unwrap().id.unwrap().to_string(), B);
        let several = choose(cells(&[A, B]), "3365").unwrap_err();
        assert!(several.to_string().contains(A) && several.to_string().contains(B), "{several}");
        let none = choose(cells(&[A, B]), "ffff").unwrap_err().to_string();
        assert!(none.contains("begins with ffff") && none.contains(A), "{none}");
    }

    #[test]
    fn an_older_server_whose_name_is_not_known_is_nobodys_id() {
        let nameless = KnownCell { id: None, ..cells(&[A])[0].clone() };
        assert!(choose(vec![nameless], "3365").unwrap_err().to_string().contains("http://3365"));
    }
}
