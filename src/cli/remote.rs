//! The common part of `get` and `put`: the server, and the result of the transfer.

use std::{
    io::{self, ErrorKind},
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

/// Runs one transfer, and prints its result.
pub fn run(
    server: &Remote,
    request: &RequestArgs,
    output: &Output,
    transfer: impl AsyncFnOnce(Client, MultiProgress) -> std::result::Result<Record, Error>,
) -> Result<ExitCode> {
    let screen = bars::screen(output.quiet);
    logging::start(output.level(), Format::Text, Target::Stderr, screen.clone());
    limits::threads(limits::OF_CLIENT)?;
    let transfer = async {
        let record = transfer(client(server, request).await?, screen).await.map_err(|error| explain(error, server))?;
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

async fn client(server: &Remote, request: &RequestArgs) -> Result<Client> {
    let Remote { host, port } = server;
    let addresses = smol::net::resolve((host.as_str(), *port)).await;
    let addresses = addresses.map_err(|error| format!("cannot find the host {host}: {error}"))?;
    let address = *addresses.first().ok_or_else(|| format!("the host {host} has no address"))?;
    let client = Client::new(address)
        .mode(request.mode())
        .blksize(request.blksize)
        .windowsize(request.windowsize)
        .patience(request.patience.into());
    Ok(match request.timeout {
        Some(timeout) => client.timeout(timeout.into()),
        None => client,
    })
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
