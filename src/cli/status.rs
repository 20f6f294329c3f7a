//! The status page of `tuffet serve`.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
};

use clap::Args;
use log::{info, warn};
use tuffet::{
    Error, Server, ServerBuilder,
    status::{Serving, Status},
};

use super::{Result, serve::another, values};

#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Serve the status page and /metrics over HTTP here; :PORT is for this machine only
    #[arg(long, value_name = "ADDR:PORT", env = "TUFFET_STATUS", value_parser = address, help_heading = "Output")]
    pub status: Option<SocketAddr>,
}

impl StatusArgs {
    /// Binds the status server, if it is wanted, and shows it the transfers.
    pub fn watch(&self, builder: ServerBuilder) -> Result<(Option<Status>, ServerBuilder)> {
        let Some(address) = self.status else { return Ok((None, builder)) };
        let status = Status::bind(address).map_err(explain)?;
        let builder = builder.watch(&status);
        Ok((Some(status), builder))
    }
}

/// Begins to serve the page.
pub fn serve(status: Option<Status>, server: &Server, served: &str) -> Result<Option<Serving>> {
    let Some(status) = status else { return Ok(None) };
    info!("status at http://{}/", status.addr());
    if !status.addr().ip().to_canonical().is_loopback() {
        warn!("anyone who can reach it can read the names of files and the addresses of machines");
    }
    Ok(Some(status.describe(served).listening(server.addrs()).serve(server.handle())?))
}

fn explain(error: Error) -> String {
    let Error::Bind(address, cause) = &error else { return error.to_string() };
    let bind = |address| std::net::TcpListener::bind(address).map(drop);
    let fix = match cause.kind() {
        ErrorKind::AddrInUse => {
            format!("another program uses it; use another port: --status {}", another(*address, 9069, bind))
        }
        ErrorKind::PermissionDenied => "ports below 1024 need root; use another port: --status :9069".into(),
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address; --status :9069 is for this machine only".into()
        }
        _ => return error.to_string(),
    };
    format!("cannot bind {address}: {cause}; {fix}")
}

fn address(text: &str) -> std::result::Result<SocketAddr, String> {
    match values::alone(text) {
        Some(port) => Ok((Ipv4Addr::LOCALHOST, values::port(port)?).into()),
        None => values::address(text, "192.0.2.1:9069 or :9069"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_for_this_machine_only() {
        assert_eq!(address(":9069").unwrap().to_string(), "127.0.0.1:9069");
        assert_eq!(address("0.0.0.0:9069").unwrap().to_string(), "0.0.0.0:9069");
        assert_eq!(address("[::]:9069").unwrap().to_string(), "[::]:9069");
        for bad in ["", ":", "9069", "localhost:9069", "10.0.0.1", ":65536"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
