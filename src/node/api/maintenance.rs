//! Requests by which cells keep each other's copies healthy, and by which users maintain a cell.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_lite::future;
use smol::Timer;
use smol::lock::SemaphoreGuard;

use crate::cell::{CopyInput, Input, MemberInput};
use crate::id::{ID_HEX_LEN, MAX_CHUNK_BYTES};
use crate::net::Exchange;
use crate::node::api::Api;
use crate::node::api::response::{ErrorResponse, Response, read_body};
use crate::node::mailbox::ColonySnapshot;
use crate::store::CopyState;
use crate::wire::datagram::Datagram;
use crate::wire::holder_hints::{HolderHintsError, parse_holder_hints};
use crate::wire::id_lists::{MAX_VERIFY_IDS, write_ids};
use crate::wire::peers::Join;
use crate::wire::routes::MAX_JSON_REQUEST_BYTES;

/// How long a request to re-hash copies waits for a permit. Shorter than the gateway waits for a response.
const VERIFICATION_TIMEOUT: Duration = Duration::from_secs(20);

impl Api {
    /// `POST /chunks/have?verify=1`: re-hashes the listed copies and reports which are good.
    pub(super) fn verify(&self, exchange: &mut Exchange) -> Result<Response, ErrorResponse> {
        let too_many =
            || ErrorResponse::new(413, format!("more than {MAX_VERIFY_IDS} ids to verify in one request; send fewer"));
        // Each line can end with CR LF.
        if exchange.body_bytes() > (MAX_VERIFY_IDS * (ID_HEX_LEN + 2)) as u64 {
            return Err(too_many());
        }
        let ids = Self::read_ids(exchange)?;
        if ids.len() > MAX_VERIFY_IDS {
            return Err(too_many());
        }
        let _permit = self.verification_permit()?;
        let mut good = Vec::with_capacity(ids.len());
        for id in ids {
            if self.copies.verify(&id)? == CopyState::Good {
                good.push(id);
            }
        }
        Ok(Response::Lines(write_ids(&good), None))
    }

    fn verification_permit(&self) -> Result<SemaphoreGuard<'_>, ErrorResponse> {
        let permit = future::or(async { Some(self.verifications.acquire().await) }, async {
            Timer::after(VERIFICATION_TIMEOUT).await;
            None
        });
        smol::block_on(permit)
            .ok_or_else(|| ErrorResponse::new(503, "too many copies are being verified; try again later"))
    }

    /// `POST /chunks/holders`: another cell reports where copies are.
    pub(super) fn holders(&self, exchange: &mut Exchange) -> Result<Response, ErrorResponse> {
        let permit = self.long_list_permit(exchange);
        let body = read_body(exchange, MAX_CHUNK_BYTES as u64)?;
        let hints = parse_holder_hints(&body).map_err(|error| {
            let status = match error {
                HolderHintsError::TooMany => 413,
                HolderHintsError::Line { .. } => 400,
            };
            ErrorResponse::new(status, error.to_string())
        })?;
        drop(body);
        self.mailbox.send_large(Input::Copy(CopyInput::Hints(hints)), permit);
        Ok(Response::Empty)
    }

    /// `POST /alert`: reports a bad copy on some cell. The body is the same as in an alert datagram.
    pub(super) fn alert(&self, exchange: &mut Exchange) -> Result<Response, ErrorResponse> {
        let body = read_body(exchange, MAX_JSON_REQUEST_BYTES)?;
        let invalid = |why: String| {
            let form = r#"{"type":"alert","node_id":…,"culprit":…,"chunk":…,"found":…}"#;
            ErrorResponse::new(400, format!("the body must be {form}: {why}"))
        };
        let alert = match Datagram::parse(&body) {
            Ok(Datagram::Alert(alert)) => alert,
            Ok(Datagram::Beacon(_) | Datagram::Probe) => return Err(invalid("this is not an alert".into())),
            Err(error) => return Err(invalid(error.to_string())),
        };
        self.mailbox.send(Input::Copy(CopyInput::Alert(alert)));
        Ok(Response::Empty)
    }

    /// `POST /join`: adds another cell to the static peers of this one.
    pub(super) fn join(&self, exchange: &mut Exchange) -> Result<Response, ErrorResponse> {
        let body = read_body(exchange, MAX_JSON_REQUEST_BYTES)?;
        let join: Join = serde_json::from_slice(&body).map_err(|error| {
            ErrorResponse::new(400, format!("the body must be {{\"url\":\"http://ADDRESS:PORT\"}}: {error}"))
        })?;
        self.mailbox.send(Input::Member(MemberInput::Join { address: peer_address(&join.url)?.to_string() }));
        Response::json(&self.snapshot()?.peers())
    }

    /// `POST /drain`: starts draining this cell, or returns the progress of the drain in progress.
    pub(super) fn drain(&self) -> Result<Response, ErrorResponse> {
        let snapshot = self.apply(Input::Copy(CopyInput::Drain(true)))?;
        Response::json(&snapshot.activity.drain.unwrap_or_default())
    }

    /// `DELETE /drain`: cancels the drain.
    pub(super) fn undrain(&self) -> Result<Response, ErrorResponse> {
        self.apply(Input::Copy(CopyInput::Drain(false))).map(|_| Response::Empty)
    }

    /// `POST /scrub`: starts a full scrub, or returns the progress of the scrub in progress.
    pub(super) fn scrub(&self) -> Result<Response, ErrorResponse> {
        let snapshot = self.apply(Input::Copy(CopyInput::Scrub))?;
        Response::json(&snapshot.activity.scrub.unwrap_or_default())
    }

    fn apply(&self, input: Input) -> Result<ColonySnapshot, ErrorResponse> {
        self.mailbox.apply(input).ok_or_else(ErrorResponse::driver_not_responding)
    }
}

/// The address of a cell that joins, which must be on a private network, so that a request cannot make this cell
/// connect to the internet.
fn peer_address(url: &str) -> Result<SocketAddr, ErrorResponse> {
    let invalid = || ErrorResponse::new(400, "url must be http://ADDRESS:PORT with a numeric address");
    let authority = url.strip_prefix("http://").ok_or_else(invalid)?;
    let address: SocketAddr = authority.trim_end_matches('/').parse().map_err(|_| invalid())?;
    let is_private = match address.ip() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_shared(ip),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    if !is_private || address.port() == 0 {
        let detail = "only cells on private networks can join; add other cells to peers in node.toml";
        return Err(ErrorResponse::new(400, detail));
    }
    Ok(address)
}

/// Whether an address is in 100.64.0.0/10 (RFC 6598), which VPNs often use.
fn is_shared(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && (64..128).contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cells_on_private_networks_can_join() {
        for private in [
            "http://10.0.2.7:8080",
            "http://192.168.1.1:80/",
            "http://127.0.0.1:9",
            "http://[fd00::1]:8080",
            "http://100.100.1.1:8080",
        ] {
            assert!(peer_address(private).is_ok(), "{private}");
        }
        for invalid in [
            "http://8.8.8.8:80",
            "https://10.0.0.1:1",
            "10.0.0.1:1",
            "http://pi:8080",
            "http://10.0.0.1",
            "http://10.0.0.1:0",
        ] {
            assert_eq!(peer_address(invalid).map_err(|error| error.status()), Err(400), "{invalid}");
        }
    }
}
