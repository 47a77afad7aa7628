//! Waiting for Enter between the stages (`--step`).

use std::cell::Cell;
use std::io::{self, BufRead};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::client::StopSignal;
use crate::demo::DemoError;
use crate::demo::narration::{Stage, heading, prompt};

/// How often the stop signal is checked.
const STOP_POLL: Duration = Duration::from_millis(100);

pub(super) struct Steps {
    /// Receives each press of Enter; `None` without `--step`.
    keys: Option<Receiver<()>>,
    is_first: Cell<bool>,
}

impl Steps {
    pub(super) fn new(wait: bool) -> Self {
        Self { keys: wait.then(keys), is_first: Cell::new(true) }
    }

    /// Starts a stage, after Enter with `--step`. The first stage starts at once.
    pub(super) fn stage(&self, stage: Stage, stop: &StopSignal) -> Result<(), DemoError> {
        if let Some(keys) = self.keys.as_ref().filter(|_| !self.is_first.get()) {
            prompt(true);
            // Ignore what was pressed before the prompt.
            while keys.try_recv().is_ok() {}
            wait(keys, stop)?;
            prompt(false);
        }
        self.is_first.set(false);
        heading(stage);
        Ok(())
    }
}

/// Waits for Enter. At the end of the input the demo continues without waiting.
fn wait(keys: &Receiver<()>, stop: &StopSignal) -> Result<(), DemoError> {
    loop {
        if stop.is_set() {
            return Err(DemoError::Stopped);
        }
        match keys.recv_timeout(STOP_POLL) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Reads standard input on a thread of its own, so that the demo can wait for a line and for the stop signal at once.
fn keys() -> Receiver<()> {
    let (sender, keys) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let lines = io::stdin().lock().lines();
        for _ in lines.map_while(Result::ok) {
            // A full channel already holds one press.
            let _ = sender.try_send(());
        }
    });
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_and_end_of_input_continue_and_stop_ends() {
        let (sender, keys) = mpsc::sync_channel(1);
        sender.send(()).unwrap();
        let stop = StopSignal::default();
        assert!(wait(&keys, &stop).is_ok());
        drop(sender);
        assert!(wait(&keys, &stop).is_ok());
        let (_sender, keys) = mpsc::sync_channel(1);
        stop.set();
        assert!(matches!(wait(&keys, &stop), Err(DemoError::Stopped)));
    }
}
