//! Ctrl-C.

use crate::cli::exit_code::FAILED;
use crate::client::StopSignal;

/// The signal that Ctrl-C sets, for the work to end in order. A second Ctrl-C ends the process at once.
pub(super) fn stop_on_interrupt() -> StopSignal {
    let stop = StopSignal::default();
    let handler = stop.clone();
    // Without a handler Ctrl-C ends the process at once, which no journal or file suffers from.
    drop(ctrlc::set_handler(move || {
        if handler.is_set() {
            #[allow(clippy::exit)] // The user insists.
            std::process::exit(i32::from(FAILED));
        }
        handler.set();
    }));
    stop
}
