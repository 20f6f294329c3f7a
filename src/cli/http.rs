//! The options for serving the same files over HTTP.

use std::{
    io::{ErrorKind, Write},
    net::{SocketAddr, TcpListener},
    str::FromStr,
};

use clap::Args;
use tuffet::ServerBuilder;

use super::{serve::another, values};

/// The port that is proposed if another is not available.
const PORT: u16 = 8080;

#[derive(Args, Debug)]
pub struct HttpArgs {
    /// Serve the same files over HTTP here: ADDR:PORT or :PORT, may be repeated
    #[arg(long, value_name = "ADDR:PORT", env = "TUFFET_HTTP", value_delimiter = ',', help_heading = "Network")]
    pub http: Vec<Http>,
}

/// Addresses for HTTP. A port alone means all addresses of IPv4 and IPv6, as far as the system has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http(pub Vec<SocketAddr>);

impl FromStr for Http {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match values::alone(text) {
            // `Listen` would default to the port of TFTP.
            Some(_) => text.parse::<values::Listen>().map(|all| Self(all.0)),
            None => values::address(text, "192.0.2.1:8080 or :8080").map(|address| Self(vec![address])),
        }
    }
}

impl HttpArgs {
    pub fn apply(&self, builder: ServerBuilder) -> ServerBuilder {
        self.http.iter().flat_map(|http| super::serve::available(&http.0)).fold(builder, ServerBuilder::http)
    }

    /// Why this address cannot be bound and what to do, if it is an address for HTTP and not one for TFTP.
    pub fn explain(&self, address: SocketAddr, cause: &std::io::Error) -> Option<String> {
        let bind = |address: SocketAddr| TcpListener::bind(address).map(drop);
        if !self.http.iter().any(|http| http.0.contains(&address)) || bind(address).is_ok() {
            return None;
        }
        let fix = match cause.kind() {
            ErrorKind::AddrInUse => format!(
                "another program uses it, `ss -ltnp sport = :{}` shows which; or use another port: --http {}",
                address.port(),
                another(address, PORT, bind)
            ),
            ErrorKind::PermissionDenied => format!(
                "ports below 1024 need root or `setcap cap_net_bind_service=+ep tuffet`; or use another port: \
                 --http :{PORT}"
            ),
            ErrorKind::AddrNotAvailable => {
                "this machine has no such address; `ip address` lists its addresses".to_owned()
            }
            _ => return None,
        };
        Some(format!("cannot bind {address} for HTTP: {cause}; {fix}"))
    }
}

/// Prints the addresses for scripts, which read the actual port for port 0.
pub fn print_addresses(out: &mut impl Write, addrs: &[SocketAddr]) {
    for address in addrs {
        _ = writeln!(out, "listening on http://{address}/");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_for_http() {
        let addresses = |text: &str| {
            let http = text.parse::<Http>();
            http.map(|http| http.0.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(addresses(":8080").unwrap(), ["0.0.0.0:8080", "[::]:8080"]);
        assert_eq!(addresses("10.0.0.1:80").unwrap(), ["10.0.0.1:80"]);
        assert_eq!(addresses("[::1]:80").unwrap(), ["[::1]:80"]);
        for bad in ["", ":", "8080", "10.0.0.1", "::1", "localhost:80", ":65536"] {
            assert!(addresses(bad).is_err(), "{bad}: a port is wanted");
        }
    }

    #[test]
    fn an_address_of_tftp_is_not_explained() {
        let args = HttpArgs { http: vec![":8080".parse().unwrap()] };
        assert_eq!(args.explain("10.0.0.1:69".parse().unwrap(), &ErrorKind::AddrInUse.into()), None);
    }
}
