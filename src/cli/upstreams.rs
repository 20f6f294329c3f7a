//! The servers behind this one, asked once at the start: one that is wrong or down is told of before a machine needs it.

use std::thread;

use futures_lite::future::Boxed;
use log::{info, warn};
use smol::LocalExecutor;
use tuffet::Refusal;

/// A server by its name, and what it answers when this is awaited.
pub type Question = (String, Boxed<Result<String, Refusal>>);

/// Asks all of them at once, beside everything else, and logs what comes of it. Whatever that is, it is served.
pub fn ask(questions: Vec<Question>) {
    if questions.is_empty() {
        return;
    }
    let work = move || {
        let executor = LocalExecutor::new();
        let tasks: Vec<_> = questions.into_iter().map(|question| executor.spawn(asked(question))).collect();
        smol::block_on(executor.run(async {
            for task in tasks {
                task.await;
            }
        }));
    };
    if let Err(error) = thread::Builder::new().name("tuffet-upstreams".into()).spawn(work) {
        warn!("the servers behind this one are not asked whether they are there: {error}");
    }
}

async fn asked((name, answer): Question) {
    match answer.await {
        Ok(said) => info!("{name} {said}"),
        Err(refusal) => {
            let why = refusal.detail().unwrap_or(refusal.message());
            warn!("{name} cannot serve now: {why}; it is asked for files all the same");
        }
    }
}
