//! Work that blocks, on smol's threads for that.

use std::any::Any;

/// As [`smol::unblock`], for all kinds of work as one kind of task: each kind would be some KB of code more.
pub(crate) async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let work: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send> = Box::new(move || Box::new(work()));
    *smol::unblock(work).await.downcast().expect("the result of this work is of its type")
}
