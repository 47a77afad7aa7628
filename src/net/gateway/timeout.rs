//! A time limit on asynchronous work.

use std::time::Duration;

use smol::{Timer, future};

/// The result of `work`, or `None` if it takes longer than `timeout`.
pub(super) async fn with_timeout<T>(timeout: Duration, work: impl Future<Output = T>) -> Option<T> {
    future::or(async { Some(work.await) }, async {
        Timer::after(timeout).await;
        None
    })
    .await
}
