use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::Request;

/// The client's identity, in the headers that tftp-http-proxy introduced.
pub(super) fn headers(request: &Request) -> HeaderMap {
    let (ip, port) = (request.peer().ip().to_canonical().to_string(), request.peer().port().to_string());
    let text = |value: &str| HeaderValue::from_str(value).ok();
    // A filename may have any bytes; the value of a header has no line ends.
    let file = HeaderValue::from_bytes(request.filename()).ok();
    let headers =
        [("x-forwarded-for", text(&ip)), ("x-tftp-ip", text(&ip)), ("x-tftp-port", text(&port)), ("x-tftp-file", file)];
    headers.into_iter().filter_map(|(name, value)| Some((HeaderName::from_static(name), value?))).collect()
}
