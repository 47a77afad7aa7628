//! Notifications to the service manager (systemd, `Type=notify`): the cell is ready, it is alive, its status, it stops.
//! A cell that no service manager started sends none.
//!
//! A cell counts as alive if its driver answers a request. If the driver hangs, the watchdog of the service manager ends
//! the process and starts it again. The load of the gateway does not count: otherwise anyone could have a cell restarted
//! by opening connections.

use std::time::Duration;

use sd_notify::NotifyState;
use smol::Timer;

use crate::human;
use crate::node::mailbox::{ColonySnapshot, Mailbox};
use crate::wire::peers::Presence;

/// Longest interval between two status messages.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// Reports that the cell accepts requests.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Reports that the cell is about to stop.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping: finishing the requests in progress")]);
}

/// Reports that the cell is alive, three times per watchdog interval. Never returns.
pub(super) async fn watch(mailbox: &Mailbox) {
    let interval = sd_notify::watchdog_enabled().map_or(STATUS_INTERVAL, |watchdog| STATUS_INTERVAL.min(watchdog / 3));
    loop {
        // Without an answer from the driver nothing is reported.
        if let Some(snapshot) = mailbox.snapshot_async().await {
            notify(&[NotifyState::Watchdog, NotifyState::Status(&status(&snapshot))]);
        }
        Timer::after(interval).await;
    }
}

/// The line that `systemctl status` shows.
fn status(snapshot: &ColonySnapshot) -> String {
    let count = |state| snapshot.cells.iter().filter(|cell| cell.state == state).count();
    let own = &snapshot.own;
    let mut text = format!(
        "{} cell, {}, {}; other cells: {} active",
        own.role,
        own.status,
        human::count(own.chunks.unwrap_or(0), "chunk"),
        count(Presence::Active)
    );
    for state in [Presence::Silent, Presence::Dead] {
        let cells = count(state);
        if cells > 0 {
            text += &format!(", {cells} {state}");
        }
    }
    text
}

/// Errors are ignored: the service manager notices the missing messages.
fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("cannot notify the service manager: {error}");
    }
}
