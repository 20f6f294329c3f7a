use std::time::Duration;

use async_compat::Compat;
use genawaiter::rc::{Co, Gen};
use reqwest::Response;

use super::{located, within};
use crate::{Bytes, Refusal, Source};

/// The body of this response, a chunk at a time as the connection gives them. Dropping it closes the connection.
pub(super) fn source(response: Response, read_timeout: Duration, url: String) -> Source {
    // As in `read`, everything that touches the response does it in a tokio context, the drop included.
    Gen::new(|co| Compat::new(chunks(co, response, read_timeout, url))).into()
}

async fn chunks(co: Co<Bytes>, mut response: Response, read_timeout: Duration, url: String) -> Result<(), Refusal> {
    while let Some(chunk) = within(read_timeout, response.chunk()).await.map_err(|refusal| located(&url, refusal))? {
        co.yield_(chunk).await;
    }
    Ok(())
}
