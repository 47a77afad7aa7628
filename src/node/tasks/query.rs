//! Questions to other cells: which chunks they have, and how many copies of them the colony must keep.

use std::net::SocketAddr;

use crate::cell::SharedOutcome;
use crate::human;
use crate::id::ChunkId;
use crate::net::client::Http;
use crate::wire::shared_chunks::SharedQuery;

/// Ids in one request. A cell answers this many without delaying other requests.
pub(super) const IDS_PER_REQUEST: usize = 1000;

/// The ids that the cell at this address has; `None` if it does not answer. Blocks.
pub(super) fn query_have(http: &Http, to: SocketAddr, mut ids: Vec<ChunkId>) -> Option<Vec<ChunkId>> {
    ids.sort_unstable();
    let mut has = Vec::new();
    for ids_of_request in ids.chunks(IDS_PER_REQUEST) {
        if let Err(error) = http.have(&format!("http://{to}"), ids_of_request, &mut |id| has.push(id)) {
            log::debug!("cannot query {to} about {}: {error}", human::count(ids.len(), "chunk"));
            return None;
        }
        // An answer with more ids than asked for must not fill the memory.
        has.retain(|id| ids.binary_search(id).is_ok());
        has.sort_unstable();
        has.dedup();
    }
    Some(has)
}

/// One page of the chunks that the cell at this address shares with this one. Blocks.
pub(super) fn query_shared(http: &Http, to: SocketAddr, query: &SharedQuery) -> SharedOutcome {
    match http.shared_chunks(&format!("http://{to}"), query) {
        Ok(Some(chunks)) => SharedOutcome::Answered(chunks),
        Ok(None) => SharedOutcome::CannotTell,
        Err(error) => {
            log::debug!("cannot ask {to} for the chunks that it shares with this cell: {error}");
            SharedOutcome::Unanswered
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::CellId;
    use crate::net::client::Timeouts;
    use crate::net::test_server::{TestServer, response, unreachable_address};
    use crate::wire::id_lists::{parse_ids, write_ids};
    use crate::wire::shared_chunks::{IdPrefix, SharedChunk};

    fn query(to: SocketAddr, ids: Vec<ChunkId>) -> Option<Vec<ChunkId>> {
        query_have(&Http::new(Timeouts::PROBE, 1, 1), to, ids)
    }

    #[test]
    fn ids_that_were_not_asked_for_are_ignored() {
        let ids: Vec<ChunkId> = (0..2500u64).map(|n| ChunkId::of(&n.to_le_bytes())).collect();
        let mut held = ids[..2].to_vec();
        held.sort_unstable();
        // The peer sends each of its ids twice, and many others.
        let answer = write_ids(&[&held[..], &held[..], &vec![ChunkId::of(b"not asked for"); 1000]].concat());
        let peer = TestServer::always(response(200, answer.as_bytes()));
        assert_eq!(query(peer.address, ids), Some(held));
        let requests = peer.requests();
        let counts: Vec<usize> = requests.iter().map(|request| parse_ids(&request.body).unwrap().len()).collect();
        assert_eq!(counts, [IDS_PER_REQUEST, IDS_PER_REQUEST, 500]);
        assert!(requests.iter().all(|request| request.line() == "POST /chunks/have"));
    }

    #[test]
    fn a_cell_of_an_earlier_version_cannot_tell_what_it_shares() {
        let (id, other) = (ChunkId::from_bytes([7; 32]), ChunkId::from_bytes([8; 32]));
        let query = SharedQuery { node: CellId::from_bytes([1; 16]), prefix: IdPrefix::of_byte(7), after: None };
        let line = |id| format!("{{\"id\":\"{id}\",\"copies\":2}}\n");
        for (answer, expected) in [
            (response(200, line(id).as_bytes()), SharedOutcome::Answered(vec![SharedChunk { id, copies: Some(2) }])),
            (response(200, line(other).as_bytes()), SharedOutcome::Unanswered),
            (response(404, b""), SharedOutcome::CannotTell),
            (response(405, b""), SharedOutcome::CannotTell),
            (response(501, b""), SharedOutcome::CannotTell),
            (response(503, b""), SharedOutcome::Unanswered),
        ] {
            let peer = TestServer::always(answer);
            assert_eq!(query_shared(&Http::new(Timeouts::PROBE, 1, 1), peer.address, &query), expected);
            let target = format!("GET /chunks/shared?for={}&prefix=07", query.node);
            assert_eq!(peer.requests()[0].line(), target);
        }
    }

    #[test]
    fn a_missing_answer_differs_from_an_empty_one() {
        let ids = vec![ChunkId::of(b"x")];
        for (answer, expected) in
            [(response(200, b""), Some(Vec::new())), (response(503, b""), None), (response(200, b"not an id\n"), None)]
        {
            assert_eq!(query(TestServer::always(answer).address, ids.clone()), expected);
        }
        assert_eq!(query(unreachable_address(), ids), None);
    }
}
