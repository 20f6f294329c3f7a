//! The connections to an object store.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Limited};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
        HttpResponseBody, HttpService,
    },
};
use reqwest::{Client, Method, redirect::Policy};

use crate::handlers::shared::Renewed;

/// The most bytes of a list or of the text of an error. A list has 5000 names at most.
const LONGEST_TEXT: usize = 16 << 20;

/// The settings of the connections to the store.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) connect_timeout: Duration,
    pub(super) tls: rustls::ClientConfig,
}

/// HTTP/1.1 only: there a body that is not read blocks its own connection and no others.
fn client(settings: &Settings, idle: usize) -> reqwest::Result<HttpClient> {
    Client::builder()
        .user_agent(concat!("tuffet/", env!("CARGO_PKG_VERSION")))
        .referer(false)
        .http1_only()
        .connect_timeout(settings.connect_timeout)
        .redirect(Policy::none())
        .pool_max_idle_per_host(idle)
        .pool_idle_timeout(Duration::from_secs(15))
        .tls_backend_preconfigured(settings.tls.clone())
        .build()
        .map(HttpClient::new)
}

/// Makes the store use this crate's HTTP client, with ring and the system's certificates, whatever the store's own
/// client options are.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    client: Arc<Renewed<HttpClient>>,
    /// Opens a new connection for each request.
    fresh: HttpClient,
}

impl Connector {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let for_clients = settings.clone();
        let kept = Renewed::new(move || client(&for_clients, 8)).map_err(|error| error.to_string())?;
        let fresh = client(settings, 0).map_err(|error| error.to_string())?;
        Ok(Self { client: Arc::new(kept), fresh })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// The type that `async_trait` makes of the trait's `async fn`.
type Called<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Connector {
    fn call<'life0, 'async_trait>(&'life0 self, request: HttpRequest) -> Called<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async {
            let (again, is_for_object) = (again(&request), is_for_object(&request));
            let answer = match (self.client.at(Instant::now()).execute(request).await, again) {
                (Err(error), Some(again)) if may_be_stale_connection(error.kind()) => self.fresh.execute(again).await,
                (answer, _) => answer,
            }?;
            let is_object = is_for_object && answer.status().is_success();
            Ok(if is_object { answer } else { answer.map(bounded) })
        })
    }
}

/// The same request, if it changes nothing in the store, however often it is sent.
fn again(request: &HttpRequest) -> Option<HttpRequest> {
    if !request.method().is_safe() || !request.body().is_empty() {
        return None;
    }
    let (parts, ()) = request.clone().map(|_| ()).into_parts();
    Some(HttpRequest::from_parts(parts, HttpRequestBody::empty()))
}

/// Whether a store may have closed an idle connection while the request was on its way.
fn may_be_stale_connection(kind: HttpErrorKind) -> bool {
    !matches!(kind, HttpErrorKind::Connect | HttpErrorKind::Timeout | HttpErrorKind::Decode)
}

/// Whether this asks for the content of an object, and not for a list of objects.
fn is_for_object(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let is_list = query.split('&').any(|part| matches!(part, "list-type=2" | "comp=list"));
    request.method() == Method::GET && !is_list
}

/// A body that the store's library takes into memory as a whole.
fn bounded(body: HttpResponseBody) -> HttpResponseBody {
    let bounded = Limited::new(body, LONGEST_TEXT);
    HttpResponseBody::new(bounded.map_err(|error| HttpError::new(HttpErrorKind::Decode, io::Error::other(error))))
}
