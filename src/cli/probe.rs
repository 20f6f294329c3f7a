//! `tuffet probe`.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{self, Write},
    net::{SocketAddr, ToSocketAddrs},
    process::ExitCode,
};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use humantime::{Duration, format_duration};
use tuffet::{
    packet::Packet,
    probe::{self, Ending, Fault, Faults, Habits, Happened, Report, Way, habits},
};

use super::{
    Result,
    args::Output,
    command_line,
    format::count,
    limits, remote,
    url::{Location, location},
    values::{self, Remote},
};

/// The exit code if the file arrived, and the server has a fault.
const ODD: u8 = 3;
/// How many blocks and ACKs are shown at the beginning, and before an event.
const FIRST: usize = 6;
const BEFORE: usize = 2;

const NOTES: &str = "\
Examples:
  tuffet probe 192.0.2.1 grubx64.efi --as edk2     as UEFI firmware
  tuffet probe 192.0.2.1 linux --lose-received 5   lose a block
  tuffet probe 192.0.2.1 linux --lose-sent -1      lose the last ACK
  tuffet probe 192.0.2.1 linux --delay-sent 4=2s   delay an ACK by 2 s

Packets are counted from 1 in each direction, copies included; -1 is the packet
that ends the transfer. The same number twice means that packet and the next
one.

It exits with 0 if the file arrived and the server made no fault, with 3 if it
made one, and with 1 if the file did not arrive.

Every option can be set in the environment: --lose-sent is TUFFET_LOSE_SENT.";

/// Fetch a file as a boot client does, and show what the server did
#[derive(Args, Debug)]
#[command(after_help = NOTES, mut_args = |arg| arg.hide_env(true))]
pub struct Probe {
    /// The server [default port: 69], or a URL: tftp://HOST[:PORT]/NAME
    #[arg(value_name = "HOST[:PORT]", value_parser = location())]
    location: Location,

    /// The file's name on the server; a URL has it already
    name: Option<OsString>,

    /// Use the options, timeouts and habits of this client
    #[arg(long = "as", value_name = "CLIENT", env = "TUFFET_AS", default_value = "ipxe", value_parser = client())]
    client: Habits,

    /// Lose the N-th packet to the server; may be repeated
    #[arg(long, value_name = "N", env = "TUFFET_LOSE_SENT", help_heading = "Faults")]
    #[arg(allow_negative_numbers = true, value_delimiter = ',', value_parser = number)]
    lose_sent: Vec<i64>,

    /// Lose the N-th packet from the server
    #[arg(long, value_name = "N", env = "TUFFET_LOSE_RECEIVED", help_heading = "Faults")]
    #[arg(allow_negative_numbers = true, value_delimiter = ',', value_parser = number)]
    lose_received: Vec<i64>,

    /// Deliver the N-th packet to the server twice
    #[arg(long, value_name = "N", env = "TUFFET_DUPLICATE_SENT", help_heading = "Faults")]
    #[arg(allow_negative_numbers = true, value_delimiter = ',', value_parser = number)]
    duplicate_sent: Vec<i64>,

    /// Deliver the N-th packet from the server twice
    #[arg(long, value_name = "N", env = "TUFFET_DUPLICATE_RECEIVED", help_heading = "Faults")]
    #[arg(allow_negative_numbers = true, value_delimiter = ',', value_parser = number)]
    duplicate_received: Vec<i64>,

    /// Delay the N-th packet to the server by this time
    #[arg(long, value_name = "N=TIME", env = "TUFFET_DELAY_SENT", help_heading = "Faults")]
    #[arg(allow_hyphen_values = true, value_delimiter = ',', value_parser = delay)]
    delay_sent: Vec<(i64, Duration)>,

    /// Delay the N-th packet from the server by this time
    #[arg(long, value_name = "N=TIME", env = "TUFFET_DELAY_RECEIVED", help_heading = "Faults")]
    #[arg(allow_hyphen_values = true, value_delimiter = ',', value_parser = delay)]
    delay_received: Vec<(i64, Duration)>,

    /// Give up after this time, not counting the client's own pauses
    #[arg(long, value_name = "TIME", env = "TUFFET_LIMIT", default_value = "60s", value_parser = values::duration)]
    limit: Duration,

    #[command(flatten)]
    pub output: Output,
}

fn client() -> impl TypedValueParser<Value = Habits> {
    let names = PossibleValuesParser::new(habits::ALL.iter().map(|(name, _)| *name));
    names.try_map(|wanted| habits::ALL.iter().find(|(name, _)| *name == wanted).map(|found| found.1).ok_or(""))
}

fn number(text: &str) -> std::result::Result<i64, &'static str> {
    text.parse().ok().filter(|n| *n > 0 || *n == -1).ok_or("not the number of a packet: 1 or more, or -1 for the last")
}

fn delay(text: &str) -> std::result::Result<(i64, Duration), String> {
    let (packet, time) = text.split_once('=').ok_or("not a packet and a time, such as 3=200ms")?;
    Ok((number(packet)?, values::duration(time)?))
}

pub fn run(args: &Probe) -> Result<ExitCode> {
    let (server, name) = args.file();
    let address = address(server)?;
    limits::threads(limits::OF_CLIENT)?;
    let probe = probe::Probe::new(address, name, args.client).faults(args.faults()).limit(args.limit.into());
    let mut worst = 0;
    let mut screen = Screen::new(args);
    let failed = |error: io::Error| remote::failed(&error, server);
    if let Some(report) = probe.run_size(|happened| screen.show(happened)).map_err(failed)? {
        worst = screen.judge(&report, args);
        screen = Screen::new(args);
    }
    let report = probe.run(|happened| screen.show(happened)).map_err(failed)?;
    worst = match screen.judge(&report, args) {
        1 => 1,
        code => code.max(worst),
    };
    Ok(ExitCode::from(worst))
}

fn address(server: &Remote) -> Result<SocketAddr> {
    let Remote { host, port } = server;
    let found = (host.as_str(), *port).to_socket_addrs();
    let mut found = found.map_err(|error| format!("cannot find the host {host}: {error}"))?;
    Ok(found.next().ok_or_else(|| format!("the host {host} has no address"))?)
}

impl Probe {
    fn file(&self) -> (&Remote, &[u8]) {
        match (&self.location, &self.name) {
            (Location::Server(server), Some(name)) => (server, name.as_encoded_bytes()),
            (Location::File(url), None) if url.name.is_empty() => {
                command_line::usage_error(&format!("the URL names no file: tuffet probe tftp://{}/NAME", url.server))
            }
            (Location::File(url), None) => (&url.server, &url.name),
            (Location::Server(_), None) => command_line::usage_error("NAME is missing: tuffet probe HOST NAME"),
            (Location::File(_), Some(_)) => {
                command_line::usage_error("the URL has the file's name already: tuffet probe URL")
            }
        }
    }

    fn faults(&self) -> Faults {
        let mut faults = Faults::new();
        for (way, fault, numbers) in [
            (Way::Sent, Fault::Lose, &self.lose_sent),
            (Way::Received, Fault::Lose, &self.lose_received),
            (Way::Sent, Fault::Duplicate, &self.duplicate_sent),
            (Way::Received, Fault::Duplicate, &self.duplicate_received),
        ] {
            faults = numbers.iter().fold(faults, |faults, n| faults.with(way, *n, fault));
        }
        for (way, delays) in [(Way::Sent, &self.delay_sent), (Way::Received, &self.delay_received)] {
            faults = delays.iter().fold(faults, |faults, (n, time)| faults.with(way, *n, Fault::Delay((*time).into())));
        }
        faults
    }
}

/// The shown steps, without long runs of blocks.
struct Screen {
    quiet: bool,
    all: bool,
    shown: usize,
    left_out: usize,
    held: VecDeque<String>,
    /// The highest number so far, in each direction.
    numbers: [Option<u16>; 2],
    peer: Option<SocketAddr>,
}

impl Screen {
    fn new(args: &Probe) -> Self {
        let (quiet, all) = (args.output.quiet, args.output.verbose > 0);
        Self { quiet, all, shown: 0, left_out: 0, held: VecDeque::new(), numbers: [None; 2], peer: None }
    }

    fn show(&mut self, happened: &Happened) {
        let Happened { at, way, peer, packet, copies, .. } = happened;
        let indent = if *way == Way::Sent { "" } else { "  " };
        let mut line = format!("{:8.3} s  {indent}{}", at.as_secs_f64(), describe(packet));
        let fate = match copies {
            [] => " [lost]".into(),
            [_, _, ..] => " [twice]".into(),
            [delay] if !delay.is_zero() => format!(" [{} later]", format_duration(*delay)),
            _ => String::new(),
        };
        line += &fate;
        if *way == Way::Received && self.peer.replace(*peer) != Some(*peer) {
            line += &format!(" from {peer}");
        }
        let number = match packet {
            Packet::Data { block, .. } | Packet::Ack(block) => Some(*block),
            _ => None,
        };
        let highest = &mut self.numbers[*way as usize];
        // Numbers roll over, so a number counts as old if it is nearer behind than ahead.
        let repeated = number.zip(*highest).is_some_and(|(number, highest)| number.wrapping_sub(highest) as i16 <= 0);
        if repeated {
            line += " again";
        } else {
            *highest = number.or(*highest);
        }
        // Repeated requests without an answer are left out as well.
        let asks_again = matches!(packet, Packet::Rrq(_)) && self.shown > 0 && self.peer.is_none();
        let plain = (asks_again || (number.is_some() && !repeated)) && fate.is_empty();
        if plain && !self.all && self.shown >= FIRST {
            self.held.push_back(line);
            if self.held.len() > BEFORE {
                self.held.pop_front();
                self.left_out += 1;
            }
            return;
        }
        self.shown += usize::from(plain || matches!(packet, Packet::Rrq(_)));
        self.flush();
        self.print(&line);
    }

    fn flush(&mut self) {
        match std::mem::take(&mut self.left_out) {
            0 => {}
            n => self.print(&format!("            … {}", count(n as u64, "packet"))),
        }
        for line in std::mem::take(&mut self.held) {
            self.print(&line);
        }
    }

    fn print(&self, line: &str) {
        if !self.quiet {
            // The reader may have closed the pipe.
            _ = writeln!(io::stdout(), "{line}");
        }
    }

    /// Prints the result. Returns the exit code.
    fn judge(mut self, report: &Report, args: &Probe) -> u8 {
        self.flush();
        let is_fine = report.ending.is_success() && report.warnings.is_empty();
        self.quiet &= is_fine;
        let Report { ending, bytes, took, datagrams, repeats, copies, .. } = report;
        self.print(&format!(
            "{}: {ending}, {} in {:.3} s",
            args.client.name,
            remote::bytes(*bytes),
            took.as_secs_f64()
        ));
        if !args.output.quiet {
            let after = |time: Option<std::time::Duration>, what: &str| {
                time.map_or(String::new(), |time| format!("first {what} after {:.1} ms; ", time.as_secs_f64() * 1e3))
            };
            let first = after(report.first_answer, "answer") + &after(report.first_data, "block");
            let (sent, received) = datagrams;
            let counts = format!("packets: {sent} sent ({repeats} again), {received} received ({copies} again)");
            self.print(&format!("{first}{counts}"));
            notes(report, args).iter().for_each(|note| self.print(&format!("note: {note}")));
        }
        report.warnings.iter().for_each(|warning| self.print(&format!("warning: {warning}")));
        match (ending.is_success(), report.warnings.is_empty()) {
            (true, true) => 0,
            (true, false) => ODD,
            (false, _) => 1,
        }
    }
}

/// Notes that are worth knowing and no faults.
fn notes(report: &Report, args: &Probe) -> Vec<String> {
    let mut notes = Vec::new();
    if report.first_answer.is_none() {
        notes.push(format!(
            "{} does not answer; is it a TFTP server, and does a firewall let it answer?",
            args.file().0
        ));
    }
    if report.granted.is_empty() && report.first_data.is_some() && !args.client.options.is_empty() {
        notes.push("no option was granted".into());
    }
    if report.ending == Ending::GaveUp && report.bytes == 0 && !report.granted.is_empty() {
        notes.push(
            "no block came after the OACK: blocks that are larger than a link's MTU travel in fragments, which may \
             be dropped"
                .into(),
        );
    }
    if !report.paused.is_zero() {
        let (paused, client) = (format_duration(report.paused), args.client.name);
        notes.push(format!("{client} paused for {paused}, as the real one does; --limit does not count pauses"));
    }
    if report.late > 0 {
        notes.push(format!("{} came after the end", count(report.late, "packet")));
    }
    notes
}

fn describe(packet: &Packet) -> String {
    match packet {
        Packet::Rrq(request) | Packet::Wrq(request) => {
            let name = String::from_utf8_lossy(&request.filename);
            format!("RRQ {} {} {}", name.escape_debug(), request.mode.as_str(), request.options).trim_end().into()
        }
        Packet::Data { block, payload } => format!("DATA {block}, {} bytes", payload.len()),
        Packet::Ack(block) => format!("ACK {block}"),
        Packet::Error { code, message } => format!("ERROR {code} {message:?}"),
        Packet::Oack(options) => format!("OACK {options}"),
    }
}
