use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::Request;

/// Who asks, in the headers that tftp-http-proxy made known.
pub(super) fn headers(request: &Request) -> HeaderMap {
    let (ip, port) = (request.peer().ip().to_canonical().to_string(), request.peer().port().to_string());
    let text = |value: &str| HeaderValue::from_str(value).ok();
    // A name may have any bytes; a header's value has no line ends.
    let file = HeaderValue::from_bytes(request.filename()).ok();
    let headers =
        [("x-forwarded-for", text(&ip)), ("x-tftp-ip", text(&ip)), ("x-tftp-port", text(&port)), ("x-tftp-file", file)];
    headers.into_iter().filter_map(|(name, value)| Some((HeaderName::from_static(name), value?))).collect()
}
