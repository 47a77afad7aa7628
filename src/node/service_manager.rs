//! The service manager that started the cell, if one did (systemd's `Type=notify`): it is told when the door is open, that
//! the cell lives, how it is, and that it stops. Whoever starts a cell by hand has no such manager, and nothing is sent.
//!
//! A sign of life is one of the driver: it is asked, and has to answer. A cell whose driver hangs would keep its door open
//! and do nothing; the manager's watchdog ends it and starts it again. How busy the door is does not count, or strangers
//! could have the cell restarted by filling it.

use std::time::Duration;

use sd_notify::NotifyState;
use smol::Timer;

use crate::node::mailbox::{ColonySnapshot, Mailbox};
use crate::wire::peers::Presence;

/// How often the manager hears how the cell is, if it does not ask for more.
const NEWS: Duration = Duration::from_secs(10);

/// The door is open.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The cell is about to stop.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("telling the colony and finishing what is under way")]);
}

/// Tells the manager that the cell lives, three times as often as its watchdog wants to hear it, for ever.
pub(super) async fn watch(mailbox: &Mailbox) {
    let every = sd_notify::watchdog_enabled().map_or(NEWS, |watchdog| NEWS.min(watchdog / 3));
    loop {
        // No answer, no sign of life; it has waited by then.
        if let Some(snapshot) = mailbox.snapshot_async().await {
            tell(&[NotifyState::Watchdog, NotifyState::Status(&summary(&snapshot))]);
        }
        Timer::after(every).await;
    }
}

/// The cell in a few words, for `systemctl status`.
fn summary(snapshot: &ColonySnapshot) -> String {
    let count = |state| snapshot.cells.iter().filter(|cell| cell.state == state).count();
    let own = &snapshot.own;
    let mut text = format!(
        "{} cell, {}, {} chunks; {} other cells active",
        own.role,
        own.status,
        own.chunks.unwrap_or(0),
        count(Presence::Active)
    );
    for (state, word) in [(Presence::Silent, "silent"), (Presence::Dead, "dead")] {
        match count(state) {
            0 => {}
            some => text += &format!(", {some} {word}"),
        }
    }
    text
}

/// A manager that cannot be reached learns it by the silence.
fn tell(news: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(news) {
        log::debug!("cannot tell the service manager: {error}");
    }
}
