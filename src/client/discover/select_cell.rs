//! One cell, as the user names it.

use crate::client::discover::colony::{ColonyScope, KnownCell};
use crate::client::discover::find_cells::find_cells;
use crate::client::error::ClientError;
use crate::client::usage_error::UsageError;
use crate::net::client::{CallError, Http};

/// Minimum number of digits of an id. Fewer would soon match another cell too.
const MIN_DIGITS: usize = 4;
const MAX_DIGITS: usize = 32;

/// How the user names a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CellSelector {
    /// By its URL, `http://HOST:PORT`.
    Url(String),
    /// By the first digits of its id, in lower case and without hyphens.
    IdPrefix(String),
}

impl CellSelector {
    /// Parses the first digits of an id, four at least. `None` if these are none.
    pub fn from_id_prefix(word: &str) -> Option<Self> {
        let digits: String = word.chars().filter(|c| *c != '-').collect();
        let is_id = (MIN_DIGITS..=MAX_DIGITS).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_hexdigit());
        is_id.then(|| Self::IdPrefix(digits.to_lowercase()))
    }
}

/// Finds the cell that the user named.
pub fn find_cell(http: &Http, scope: &ColonyScope, selector: &CellSelector) -> Result<KnownCell, ClientError> {
    match selector {
        CellSelector::Url(url) => find_by_url(http, url.trim_end_matches('/')),
        CellSelector::IdPrefix(prefix) => {
            let cells = find_cells(http, scope, usize::MAX)?;
            if cells.is_empty() { Err(ClientError::none_responding(scope, 0)) } else { Ok(select(cells, prefix)?) }
        }
    }
}

fn find_by_url(http: &Http, url: &str) -> Result<KnownCell, ClientError> {
    match http.status(url) {
        Ok(status) => Ok(KnownCell::from_beacon(url, &status.beacon)),
        // A server of the first version, or no cell at all. The next call to it will show that.
        Err(CallError::Refused { .. }) => Ok(KnownCell::at(url)),
        Err(error) => Err(error.into()),
    }
}

fn select(cells: Vec<KnownCell>, prefix: &str) -> Result<KnownCell, UsageError> {
    let matches = |cell: &KnownCell| cell.id.is_some_and(|id| id.to_string().replace('-', "").starts_with(prefix));
    let (mut matching, others): (Vec<_>, Vec<_>) = cells.into_iter().partition(matches);
    let (prefix, names) = (prefix.to_owned(), |cells: &[KnownCell]| cells.iter().map(KnownCell::name).collect());
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

    const A: &str = "3365a925-0000-4000-8000-000000000001";
    const B: &str = "3365a92f-0000-4000-8000-000000000002";

    fn cells() -> Vec<KnownCell> {
        let cell = |id: &str| {
            let url = format!("http://{}", &id[..8]);
            KnownCell { id: Some(id.parse::<CellId>().unwrap()), ..KnownCell::at(&url) }
        };
        vec![cell(A), cell(B)]
    }

    #[test]
    fn four_to_32_hexadecimal_digits_are_the_prefix_of_an_id() {
        assert_eq!(CellSelector::from_id_prefix("3365A925"), Some(CellSelector::IdPrefix("3365a925".into())));
        assert_eq!(CellSelector::from_id_prefix("3365a925-0000"), Some(CellSelector::IdPrefix("3365a9250000".into())));
        for other in ["336", "pi4.local", "3365g", "", "----", &"0".repeat(33)] {
            assert_eq!(CellSelector::from_id_prefix(other), None, "{other}");
        }
    }

    #[test]
    fn the_only_cell_with_the_prefix_is_selected() {
        assert_eq!(select(cells(), "3365a925").unwrap().id.unwrap().to_string(), A);
        assert_eq!(select(cells(), "3365a92f0000").unwrap().id.unwrap().to_string(), B);
    }

    #[test]
    fn an_unknown_or_ambiguous_prefix_lists_the_candidates() {
        let names = |cells: &[KnownCell]| cells.iter().map(KnownCell::name).collect::<Vec<_>>();
        let Err(UsageError::AmbiguousCell { cells: mut candidates, .. }) = select(cells(), "3365") else { panic!() };
        candidates.sort();
        assert_eq!(candidates, names(&cells()));
        let unknown = UsageError::UnknownCell { prefix: "ffff".into(), cells: names(&cells()) };
        assert_eq!(select(cells(), "ffff"), Err(unknown));
    }

    #[test]
    fn a_cell_without_an_id_matches_no_prefix() {
        let Err(UsageError::UnknownCell { cells, .. }) = select(vec![KnownCell::at("http://3365")], "3365") else {
            panic!()
        };
        assert_eq!(cells[0].url, "http://3365");
    }
}
