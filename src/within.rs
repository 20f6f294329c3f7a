//! A time limit for a future.

use std::{future::Future, pin::pin, time::Duration};

use smol::{
    Timer,
    future::{or, poll_once},
};

/// The result of this work; `None` if it takes longer than this. Only time in which this future is polled counts.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    // Most work ends at once and needs no timer.
    if let Some(done) = poll_once(work.as_mut()).await {
        return Some(done);
    }
    or(async { Some(work.await) }, async {
        Timer::after(limit).await;
        None
    })
    .await
}
