//! `--webhook`.

use std::{path::Path, thread, time::Duration};

use tuffet::stats::{Counter, Webhook};

use super::{Event, Reporter, Result};
use crate::cli::sources::web;

/// The first pause between two tries for one record. Each further one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The most tries for one record: about four minutes with these pauses.
const TRIES: u32 = 12;

/// Checks that this is a URL for a webhook. The certificates of the system have no part in that: a reload checks the
/// URL too, within the sandbox, which may not read them.
pub fn check(text: &str) -> std::result::Result<String, String> {
    Webhook::url(&text.replacen("https:", "http:", 1))
        .or_else(|_| Webhook::url(text))
        .map(|_| text.to_owned())
        .map_err(|error| format!("{error}; a URL is such as http://192.0.2.1/hook"))
}

pub fn reporter(url: &str, ca: Option<&Path>, events: Vec<Event>) -> Result<Reporter> {
    let webhook = match ca {
        Some(path) => Webhook::with_certificates(url, &web::certificates(path)?)?,
        None => Webhook::url(url)?,
    };
    let lost = Counter::new("webhook_lost", "Records of transfers that the webhook did not get.");
    Ok(Reporter::new(("--webhook", events, lost), move |event, json| Ok(deliver(&webhook, event, json))))
}

/// Whether the web server took the record.
fn deliver(webhook: &Webhook, event: Event, json: &str) -> bool {
    let mut pause = FIRST_PAUSE;
    for tried in 1..=TRIES {
        let why = match smol::block_on(webhook.post(event.name(), json.to_owned())) {
            Ok(()) => {
                if tried > 1 {
                    log::info!("webhook {webhook} accepts records again");
                }
                return true;
            }
            Err(why) => why,
        };
        if !why.is_passing || tried == TRIES {
            log::error!("webhook {webhook} did not accept a record: {why}");
            return false;
        }
        // One warning is enough for an outage.
        let level = if tried == 1 { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, "webhook {webhook}: {why}; next try in {pause:?}");
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    false
}
