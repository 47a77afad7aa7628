//! A demo that waits for its audience: the next stage begins when somebody presses Enter.

use std::cell::Cell;
use std::io::{self, BufRead};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::client::StopSignal;
use crate::demo::DemoError;
use crate::demo::narration::{Stage, heading, prompt};

/// How often the user's wish to stop is looked at.
const STOP_LOOK: Duration = Duration::from_millis(100);

pub(super) struct Steps {
    /// Each time Enter is pressed; none if nobody is waited for.
    keys: Option<Receiver<()>>,
    is_first: Cell<bool>,
}

impl Steps {
    pub(super) fn new(wait: bool) -> Self {
        Self { keys: wait.then(keys), is_first: Cell::new(true) }
    }

    /// Begins a stage, when the user wants it to. The first one begins by itself.
    pub(super) fn stage(&self, stage: Stage, stop: &StopSignal) -> Result<(), DemoError> {
        if let Some(keys) = self.keys.as_ref().filter(|_| !self.is_first.get()) {
            prompt(true);
            // What was pressed before was not meant for this.
            while keys.try_recv().is_ok() {}
            wait(keys, stop)?;
            prompt(false);
        }
        self.is_first.set(false);
        heading(stage);
        Ok(())
    }
}

/// Who ends the input presses nothing any more: the demo goes on without.
fn wait(keys: &Receiver<()>, stop: &StopSignal) -> Result<(), DemoError> {
    loop {
        if stop.is_set() {
            return Err(DemoError::Stopped);
        }
        match keys.recv_timeout(STOP_LOOK) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Reads lines for as long as there are any. Nothing else can wait for a line and for the user's wish to stop.
fn keys() -> Receiver<()> {
    let (tell, keys) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let lines = io::stdin().lock().lines();
        for _ in lines.map_while(Result::ok) {
            // One too many is one too many.
            let _ = tell.try_send(());
        }
    });
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_on_the_end_of_input_too_and_a_stop_ends_it() {
        let (tell, keys) = mpsc::sync_channel(1);
        tell.send(()).unwrap();
        let stop = StopSignal::default();
        assert!(wait(&keys, &stop).is_ok());
        drop(tell);
        assert!(wait(&keys, &stop).is_ok());
        let (_tell, keys) = mpsc::sync_channel(1);
        stop.set();
        assert!(matches!(wait(&keys, &stop), Err(DemoError::Stopped)));
    }
}
