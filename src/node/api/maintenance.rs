//! Calls by which cells keep each other's copies whole, and people look after a cell.

use std::time::Duration;

use futures_lite::future;
use smol::Timer;
use smol::lock::SemaphoreGuard;

use crate::cell::{CopyInput, Input};
use crate::id::{ID_HEX_LEN, MAX_CHUNK_BYTES};
use crate::net::Exchange;
use crate::node::api::Api;
use crate::node::api::response::{Answer, read_body, refusal};
use crate::node::mailbox::ColonySnapshot;
use crate::store::CopyState;
use crate::wire::datagram::Datagram;
use crate::wire::holder_hints::{HolderHintsError, parse_holder_hints};
use crate::wire::id_lists::{MAX_VERIFY_IDS, write_ids};
use crate::wire::problem::Problem;
use crate::wire::routes::MAX_JSON_REQUEST_BYTES;

/// How long a request to re-hash copies waits for its turn. Shorter than the door waits for an answer.
const TURN_PATIENCE: Duration = Duration::from_secs(20);

impl Api {
    /// Which of a few copies are here and good? Each is read to its end.
    pub(super) fn verify(&self, exchange: &mut Exchange) -> Result<Answer, Problem> {
        let too_many = || Problem::new(413, format!("at most {MAX_VERIFY_IDS} ids are verified in one request"));
        // So many lines, with CR and LF.
        if exchange.body_bytes() > (MAX_VERIFY_IDS * (ID_HEX_LEN + 2)) as u64 {
            return Err(too_many());
        }
        let ids = Self::ids(exchange)?;
        if ids.len() > MAX_VERIFY_IDS {
            return Err(too_many());
        }
        let _turn = self.turn_to_verify()?;
        let mut good = Vec::with_capacity(ids.len());
        for id in ids {
            if self.copies.verify(&id).map_err(|error| refusal(&error))? == CopyState::Good {
                good.push(id);
            }
        }
        Ok(Answer::Lines(write_ids(&good)))
    }

    fn turn_to_verify(&self) -> Result<SemaphoreGuard<'_>, Problem> {
        let turn = future::or(async { Some(self.verifications.acquire().await) }, async {
            Timer::after(TURN_PATIENCE).await;
            None
        });
        smol::block_on(turn).ok_or_else(|| Problem::new(503, "too many copies are being verified; ask again later"))
    }

    /// Another cell says where copies are.
    pub(super) fn holders(&self, exchange: &mut Exchange) -> Result<Answer, Problem> {
        let place = self.place_for(exchange);
        let body = read_body(exchange, MAX_CHUNK_BYTES as u64)?;
        let hints = parse_holder_hints(&body).map_err(|error| match error {
            HolderHintsError::TooMany => Problem::new(413, error.to_string()),
            _ => Problem::new(400, error.to_string()),
        })?;
        drop(body);
        self.mailbox.send_large(Input::Copy(CopyInput::Hints(hints)), place);
        Ok(Answer::Empty)
    }

    /// Somebody says that a cell has a bad copy.
    pub(super) fn alert(&self, exchange: &mut Exchange) -> Result<Answer, Problem> {
        let body = read_body(exchange, MAX_JSON_REQUEST_BYTES)?;
        let wrong = |what: String| {
            let form = r#"{"type":"alert","node_id":…,"culprit":…,"chunk":…,"found":…}"#;
            Problem::new(400, format!("the body is {form}: {what}"))
        };
        // The same bytes as the datagram's.
        let alert = match Datagram::parse(&body) {
            Ok(Datagram::Alert(alert)) => alert,
            Ok(_) => return Err(wrong("this is no alert".into())),
            Err(error) => return Err(wrong(error.to_string())),
        };
        self.mailbox.send(Input::Copy(CopyInput::Alert(alert)));
        Ok(Answer::Empty)
    }

    /// The cell is to hand its copies on. Told again, it goes on.
    pub(super) fn drain(&self) -> Result<Answer, Problem> {
        Answer::json(&self.apply(Input::Copy(CopyInput::Drain(true)))?.life.drain.unwrap_or_default())
    }

    /// The cell is to stay.
    pub(super) fn undrain(&self) -> Result<Answer, Problem> {
        self.apply(Input::Copy(CopyInput::Drain(false))).map(|_| Answer::Empty)
    }

    /// All copies are to be re-hashed now. Told again, it goes on.
    pub(super) fn scrub(&self) -> Result<Answer, Problem> {
        Answer::json(&self.apply(Input::Copy(CopyInput::Scrub))?.life.scrub.unwrap_or_default())
    }

    fn apply(&self, input: Input) -> Result<ColonySnapshot, Problem> {
        self.mailbox.apply(input).ok_or_else(|| Problem::new(503, "this cell is not well: its driver does not answer"))
    }
}
