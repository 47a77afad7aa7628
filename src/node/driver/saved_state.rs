//! Loading and saving the state of the core.

// Reads the clock: a save has a timeout.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use smol::Timer;

use crate::cell::SavedState;
use crate::store::{FileStore, Store};

/// Timeout for saving the state. A hung disk must not block the driver.
const SAVE_TIMEOUT: Duration = Duration::from_secs(30);

/// The saved state. If it cannot be read, the cell starts with an empty one.
pub(in crate::node) fn load(store: &dyn Store) -> SavedState {
    let bytes = match store.load_state() {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return SavedState::default(),
        Err(error) => {
            log::warn!("cannot read the saved state (draining, strikes, isolations), starting without: {error}");
            return SavedState::default();
        }
    };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        log::warn!("the saved state (draining, strikes, isolations) is damaged, starting without: {error}");
        SavedState::default()
    })
}

/// Saves the state durably. Ends at the timeout at the latest.
pub(super) async fn save(store: Arc<FileStore>, state: SavedState) {
    let save = smol::unblock(move || {
        let bytes = serde_json::to_vec(&state).map_err(|error| error.to_string())?;
        Store::save_state(&*store, &bytes).map_err(|error| error.to_string())
    });
    let saved = future::or(save, async {
        Timer::after(SAVE_TIMEOUT).await;
        Err(format!("the disk does not respond within {} s", SAVE_TIMEOUT.as_secs()))
    });
    if let Err(error) = saved.await {
        log::error!("cannot save the state (draining, strikes, isolations), a restart loses it: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn a_damaged_state_is_an_empty_one() {
        let store = MemoryStore::new(0);
        assert_eq!(load(&store), SavedState::default());
        let state = SavedState { draining: true, ..SavedState::default() };
        store.save_state(&serde_json::to_vec(&state).unwrap()).unwrap();
        assert_eq!(load(&store), state);
        store.save_state(b"{\"draining\":tr").unwrap();
        assert_eq!(load(&store), SavedState::default());
    }
}
