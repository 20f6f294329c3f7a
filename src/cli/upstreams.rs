//! Asks the servers behind this one once at the start, so that the log shows a wrong or dead one before a machine needs
//! it.

use std::{env, thread};

use futures_lite::future::Boxed;
use log::{info, warn};
use smol::LocalExecutor;
use tuffet::Refusal;

/// The names of the servers, and their answers as futures.
#[derive(Default)]
pub struct Questions(Vec<(String, Boxed<Result<String, Refusal>>)>);

impl Questions {
    pub fn push(&mut self, name: String, answer: impl Future<Output = Result<String, Refusal>> + Send + 'static) {
        self.0.push((name, Box::pin(answer)));
    }

    /// Asks all of them at once, in the background, and logs the results. The server serves in any case.
    pub fn ask(self) {
        if self.0.is_empty() {
            return;
        }
        for (name, _) in proxies() {
            info!(
                "{name} is set: web servers are asked through this proxy, except those of no_proxy and of this machine"
            );
        }
        let work = move || {
            let executor = LocalExecutor::new();
            let tasks: Vec<_> = self.0.into_iter().map(|question| executor.spawn(asked(question))).collect();
            smol::block_on(executor.run(async {
                for task in tasks {
                    task.await;
                }
            }));
        };
        if let Err(error) = thread::Builder::new().name("upstreams".into()).spawn(work) {
            warn!("cannot check the upstream servers at the start: {error}");
        }
    }
}

/// The variables that name proxies, and their values.
pub fn proxies() -> impl Iterator<Item = (String, String)> {
    ["http_proxy", "https_proxy", "all_proxy"].into_iter().filter_map(|name| {
        [name.to_owned(), name.to_uppercase()].into_iter().find_map(|name| {
            let value = env::var(&name).ok().filter(|value| !value.is_empty())?;
            Some((name, value))
        })
    })
}

async fn asked((name, answer): (String, Boxed<Result<String, Refusal>>)) {
    match answer.await {
        Ok(said) => info!("{name} {said}"),
        Err(refusal) => {
            let why = refusal.detail().unwrap_or(refusal.message());
            warn!("{name} fails now: {why}; requests for its files go to it all the same");
        }
    }
}
