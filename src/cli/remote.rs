//! The common part of `get` and `put`: the server, and the result of the transfer.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    process::ExitCode,
};

use smol::future;
use tuffet::{Client, Error, stats::Record, transfer::Outcome};

use super::{
    Result,
    args::{Output, RequestArgs},
    bars::{self, BinaryBytes, MultiProgress},
    format::{Format, count},
    journal::Target,
    limits, logging, signals,
    values::Remote,
};

/// The exit code of a shell for a program that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

/// Runs one transfer, and prints its result. A host may have several addresses, and a server on only one of them: if
/// one is out of reach, or its port is closed, the transfer runs with the next one.
pub fn run(
    server: &Remote,
    request: &RequestArgs,
    output: &Output,
    mut transfer: impl AsyncFnMut(Client, MultiProgress) -> std::result::Result<Record, Error>,
) -> Result<ExitCode> {
    let screen = bars::screen(output.quiet);
    logging::start(output.level(), Format::Text, Target::Stderr, screen.clone());
    limits::threads(limits::OF_CLIENT)?;
    let transfer = async {
        let attempt = async |address| transfer(client(address, request), screen.clone()).await;
        let result = first_reached(addresses(server).await?, attempt).await;
        let result = result.ok_or_else(|| format!("the host {} has no address", server.host))?;
        let record = result.map_err(|error| explain(error, server))?;
        if !output.quiet {
            eprintln!("{}", summary(&record));
        }
        Ok(ExitCode::SUCCESS)
    };
    // The dropped transfer cleans up behind itself.
    let interrupted = async {
        signals::ending().await;
        Ok(ExitCode::from(INTERRUPTED))
    };
    // The signals come first: they must be handled before anything is sent.
    smol::block_on(future::or(interrupted, transfer))
}

async fn addresses(server: &Remote) -> Result<Vec<SocketAddr>> {
    let Remote { host, port } = server;
    let addresses = smol::net::resolve((host.as_str(), *port)).await;
    Ok(addresses.map_err(|error| format!("cannot find the host {host}: {error}"))?)
}

/// The result of the first address that can be reached, or the failure of the last one. `None` without addresses.
async fn first_reached<T>(
    addresses: Vec<SocketAddr>,
    mut attempt: impl AsyncFnMut(SocketAddr) -> std::result::Result<T, Error>,
) -> Option<std::result::Result<T, Error>> {
    let mut failed = None;
    for address in addresses {
        match attempt(address).await {
            Err(Error::Io(error)) if has_no_server(&error) => {
                log::debug!("{address}: {error}");
                failed = Some(Err(Error::Io(error)));
            }
            result => return Some(result),
        }
    }
    failed
}

/// Whether the network says that there is no server at an address.
fn has_no_server(error: &io::Error) -> bool {
    use ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable, PermissionDenied};
    // Permission is denied where a route prohibits the address.
    matches!(
        error.kind(),
        AddrNotAvailable | ConnectionRefused | HostUnreachable | NetworkUnreachable | PermissionDenied
    )
}

fn client(address: SocketAddr, request: &RequestArgs) -> Client {
    let client = Client::new(address)
        .mode(request.mode())
        .blksize(request.blksize)
        .windowsize(request.windowsize)
        .patience(request.patience.into());
    match request.timeout {
        Some(timeout) => client.timeout(timeout.into()),
        None => client,
    }
}

fn explain(error: Error, server: &Remote) -> String {
    match error {
        Error::Peer { code, message } => format!("{server} sent ERROR {code} {}", message.escape_debug()),
        Error::TimedOut => format!("{server} does not answer; is it a TFTP server, and does a firewall let it answer?"),
        // The detail names a failure on this side. Without one, the server's packets were wrong.
        Error::Refused(refusal) => match refusal.detail() {
            Some(detail) => detail.to_owned(),
            None => format!("the transfer with {server} failed: {}", refusal.message()),
        },
        Error::Io(error) => failed(&error, server),
        error => format!("{server}: {error}"),
    }
}

/// The failure of a socket.
pub fn failed(error: &io::Error, server: &Remote) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            format!("{server}: the port is closed; does the TFTP server run there, and is {} its port?", server.port)
        }
        ErrorKind::PermissionDenied => format!(
            "{server}: {error}; is it the address of one machine, and does a firewall of this one let packets out?"
        ),
        _ => format!("{server}: {error}"),
    }
}

fn summary(record: &Record) -> String {
    let seconds = record.duration.as_secs_f64();
    let rate = BinaryBytes((record.bytes as f64 / seconds.max(1e-6)) as u64);
    let doubt = match record.outcome {
        Outcome::ProbablyComplete => "; the last acknowledgment did not come",
        _ => "",
    };
    let bytes = bytes(record.bytes);
    format!("{}: {bytes} in {seconds:.3} s, {rate}/s{doubt}", record.path)
}

/// A number of bytes, with a unit.
pub fn bytes(number: u64) -> String {
    count(number, "byte")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attempts addresses whose ports have these results, one after the other. Returns the number of attempts, and the
    /// result as text.
    fn reached(results: &[std::result::Result<(), Error>]) -> (usize, Option<String>) {
        let addresses = (0..results.len()).map(|port| ([127, 0, 0, 1], port as u16).into()).collect();
        let mut attempts = 0;
        let result = smol::block_on(first_reached(addresses, async |address| {
            attempts += 1;
            match &results[usize::from(address.port())] {
                Ok(()) => Ok(address.port()),
                Err(Error::Io(error)) => Err(io::Error::from(error.kind()).into()),
                Err(_) => Err(Error::TimedOut),
            }
        }));
        (attempts, result.map(|result| result.map_or_else(|error| error.to_string(), |port| port.to_string())))
    }

    #[test]
    fn a_host_has_several_addresses() {
        let failed = |kind: ErrorKind| Err(Error::Io(kind.into()));
        let refused = || failed(ErrorKind::ConnectionRefused);
        let text = |kind: ErrorKind| Some(Error::Io(kind.into()).to_string());
        assert_eq!(reached(&[]), (0, None));
        assert_eq!(reached(&[Ok(()), refused()]), (1, Some("0".into())));
        assert_eq!(reached(&[refused(), failed(ErrorKind::NetworkUnreachable), Ok(())]), (3, Some("2".into())));
        assert_eq!(
            reached(&[failed(ErrorKind::NetworkUnreachable), refused()]),
            (2, text(ErrorKind::ConnectionRefused))
        );
        // A server may have begun to answer.
        assert_eq!(reached(&[Err(Error::TimedOut), Ok(())]), (1, Some(Error::TimedOut.to_string())));
        assert_eq!(reached(&[failed(ErrorKind::StorageFull), Ok(())]).0, 1);
    }
}
