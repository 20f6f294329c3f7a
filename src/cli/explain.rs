//! `tuffet explain`.

use std::{
    ffi::OsString,
    fmt::Display,
    io::{self, Write},
    mem,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::ControlFlow,
    path::Path,
    pin::pin,
    process::ExitCode,
    task::Poll,
    time::Instant,
};

use clap::{ArgAction, Args};
use smol::{future, stream};
use tuffet::{
    ErrorCode, Handler, Refusal, Request, ServerBuilder, Source,
    dhcp::{self as proxy, Menu},
    endpoint::{Action, Endpoint, Envelope, Policy, Pool},
    handlers::{Chain, Directory, Ruled, Search},
    options::{self, Direction, Limits},
    packet::{self, Mode, Options, Packet},
    rules::{Candidate, Mac, Machine, Rules, Uuid},
};

use super::{Result, args::Serve, dhcp, limits, remote::bytes, rules, sandbox, serve, sources::Opened, values};

/// The options that UEFI firmware on Ethernet asks for.
const USUAL: &str = "tsize=0,blksize=1468,windowsize=4";

const EXAMPLES: &str = "\
Examples:
  tuffet explain 10.0.0.5 pxelinux.0 ./tftpboot
  tuffet explain 10.0.0.5 '\\Boot\\BCD' ./tftpboot --ignore-case
  tuffet explain --dhcp 52:54:00:12:34:56 x64 ./tftpboot
  tuffet explain 10.0.0.5 linux ./tftpboot --options blksize=1468,tsize=0

It takes the options of `tuffet serve`. With --dhcp, a MAC address and an
architecture (bios, x64, http-x64, arm64 ..., or a number of option 93), it
shows the boot file that the machine would get. It exits with 0 if the client
would get a file, and with 1 otherwise.";

/// Show what a server would answer to a request, and why, without a server
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, mut_args = |arg| arg.hide_env(true))]
pub struct Explain {
    /// The client's address, or its MAC address with --dhcp
    #[arg(value_parser = client)]
    pub client: Client,

    /// The file's name, as the client sends it, or with --dhcp the client's architecture: bios, x64, arm64 ...
    pub name: OsString,

    /// The options of the request
    #[arg(long, value_name = "NAME=VALUE,...", env = "TUFFET_OPTIONS", default_value = USUAL, value_delimiter = ',')]
    #[arg(value_parser = option)]
    #[arg(help_heading = "The request")]
    pub options: Vec<(String, String)>,

    /// The client uploads the file
    #[arg(long, env = "TUFFET_WRITE", action = ArgAction::SetTrue, value_parser = values::switch)]
    #[arg(help_heading = "The request")]
    pub write: bool,

    /// Uploads would make directories. No source makes any here.
    #[arg(skip)]
    makes_directories: bool,

    /// The client asks for text, with its line ends converted
    #[arg(long, env = "TUFFET_NETASCII", action = ArgAction::SetTrue, value_parser = values::switch)]
    #[arg(help_heading = "The request")]
    pub netascii: bool,

    /// The client's MAC address [default: what the neighbour table has]
    #[arg(long, value_name = "MAC", env = "TUFFET_MAC", help_heading = "The request")]
    pub mac: Option<Mac>,

    /// The machine's UUID [default: what the name has]
    #[arg(long, value_name = "UUID", env = "TUFFET_UUID", help_heading = "The request")]
    pub uuid: Option<Uuid>,

    /// The machine's serial number [default: what the name has]
    #[arg(long, value_name = "SERIAL", env = "TUFFET_SERIAL", help_heading = "The request")]
    pub serial: Option<String>,

    /// The machine's architecture: bios, ia32, x64, arm64, ... [default: what the name has]
    #[arg(long, value_name = "ARCH", env = "TUFFET_ARCH", help_heading = "The request")]
    pub arch: Option<String>,

    #[command(flatten)]
    pub serve: Serve,
}

/// The client: one that requests a file, or a machine that asks for a boot file.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    Address(IpAddr),
    Mac(Mac),
}

fn client(text: &str) -> std::result::Result<Client, &'static str> {
    let mac = || text.parse().map(Client::Mac);
    let client = text.parse().map(Client::Address).or_else(|_| mac());
    client.map_err(|_| "not an address, such as 10.0.0.5, nor a MAC address, such as 52:54:00:12:34:56")
}

fn option(text: &str) -> std::result::Result<(String, String), &'static str> {
    if text.is_empty() {
        return Ok(Default::default());
    }
    let (name, value) = text.split_once('=').ok_or("not an option, such as blksize=1468")?;
    Ok((name.into(), value.into()))
}

/// Exits with 0 if the request would be served.
pub fn run(mut args: Explain) -> Result<ExitCode> {
    args.makes_directories = args.write && mem::take(&mut args.serve.mkdir);
    let report = report(&args)?;
    if !args.serve.output.quiet {
        io::stdout().lock().write_all(report.text.as_bytes())?;
    }
    Ok(if report.served { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Default)]
struct Report {
    text: String,
    served: bool,
}

impl Report {
    fn say(&mut self, what: &str, value: impl Display) {
        self.text += &format!("{what:<8} {value}\n");
    }
}

fn report(args: &Explain) -> Result<Report> {
    let mut report = Report::default();
    let address = match args.client {
        Client::Mac(mac) => return boot(args, mac, report),
        Client::Address(address) => address,
    };
    let open = |opened: &Opened| Ok((serve::open(&args.serve, opened)?, rules::rules(&args.serve, opened)?));
    let (sources, rules) = enter(args, &mut report, open)?;
    let direction = args.direction();
    if !args.serve.access.admits(address) {
        report.say("answer", "none: --allow and --deny do not admit this client");
        return Ok(report);
    }
    let name = args.name.as_encoded_bytes();
    let asked = |name: &[u8]| request(args, address, name);
    let request = match asked(name) {
        Ok(request) => request,
        Err(refusal) => {
            report.say("name", format_args!("{:?} is refused: {refusal}", args.name));
            return Ok(report);
        }
    };
    report.say("request", format_args!("{direction} of {:?} by {address}", args.name));
    report.say("name", request.shown());
    let ruled = Ruled::new(rules.clone(), Chain::default());
    let machine = args.machine().or(ruled.machine(&request));
    if rules.needs_machine() {
        report_machine(&machine, &Machine::in_name(request.path()), &mut report);
    }
    let answered = |request: &Request, report: &mut Report| answer(args, request, (&rules, &machine), &sources, report);
    let mut answer = answered(&request, &mut report);
    // Retry without DHCP's end mark, as the server does.
    let goes_on = direction == Direction::Read && answer.as_ref().is_err_and(|refusal| !refusal.ends_search());
    if let Some(other) = request.without_end_mark().filter(|_| goes_on) {
        report.say("name", format_args!("{}, without the 0xff that ends DHCP's options", other.shown()));
        answer = answered(&other, &mut report).or(answer);
    }
    match answer {
        Err(refusal) => report.say("answer", refused(&refusal)),
        Ok(oack) => {
            report.say("asked", request.options());
            report.say("answer", if oack.is_empty() { "no options".into() } else { format!("OACK {oack}") });
            report.served = true;
        }
    }
    Ok(report)
}

/// The boot file that a machine would get.
fn boot(args: &Explain, mac: Mac, mut report: Report) -> Result<Report> {
    let name = args.name.to_string_lossy();
    let mut machine = proxy::Machine::new(name.parse().map_err(|why| format!("{name}: {why}"))?).mac(mac);
    machine.uuid = args.uuid;
    let handler = enter(args, &mut report, |opened| serve::handler(&args.serve, opened))?;
    let offers = dhcp::settings(&args.serve).menu(smol::block_on(Menu::find(&*handler)));
    report.say("machine", machine);
    for rule in offers.each_rule() {
        report.say("rule", verdict(rule.title(), rule.check(&machine)));
    }
    let server = dhcp::server(&args.serve);
    let told = |machine: &proxy::Machine| {
        let chosen = offers.choose(machine)?;
        let file = offers.place(&chosen.file, machine, server)?;
        Ok::<_, proxy::NoBootFile>(format!("{file}: {}", chosen.why))
    };
    let answer = told(&machine);
    report.served = answer.is_ok();
    // The answer to iPXE, which the network card may have or which the machine may boot.
    for (who, answer) in [("answer", answer), ("ipxe", told(&machine.with_ipxe()))] {
        report.say(who, answer.unwrap_or_else(|why| format!("none: {why}")));
    }
    Ok(report)
}

/// Opens what is served, and looks up files from then on as the user that the server becomes.
fn enter<T>(args: &Explain, report: &mut Report, open: impl FnOnce(&Opened) -> Result<T>) -> Result<T> {
    let entrance = sandbox::Entrance::for_explain(&args.serve)?;
    let opened = open(&Opened::as_user(entrance.user()))?;
    if let Some(user) = entrance.enter()?.user {
        report.say("user", user);
    }
    limits::threads(limits::OF_CLIENT)?;
    Ok(opened)
}

/// Whether a rule is for the machine or the request, and why not.
fn verdict(rule: impl Display, result: std::result::Result<(), impl Display>) -> String {
    result.map_or_else(|why| format!("{rule}: no: {why}"), |()| format!("{rule}: yes"))
}

/// The granted options and the file, if the request is not refused.
fn answer(
    args: &Explain,
    request: &Request,
    (rules, machine): (&Rules, &Machine),
    sources: &[Box<dyn Handler>],
    report: &mut Report,
) -> std::result::Result<Options, Refusal> {
    let direction = args.direction();
    let mut limits = limits(&args.serve, request, direction)?;
    let mut tried = Vec::new();
    let decided = rules.explain(request, direction, machine, |rule, result| tried.push(verdict(rule.title(), result)));
    tried.iter().for_each(|line| report.say("rule", line));
    let verdict = decided.map_err(Refusal::ending_search)?;
    if args.write && verdict.upload() == Some(false) {
        return Err(Refusal::denied());
    }
    let size = find(args, verdict.candidates(), sources, report)?;
    verdict.limit(&mut limits);
    Ok(options::answer(request.options(), direction, request.mode(), &limits, size).1)
}

impl Explain {
    fn direction(&self) -> Direction {
        if self.write { Direction::Write } else { Direction::Read }
    }

    /// The facts about the machine from the command line.
    fn machine(&self) -> Machine {
        let mut machine = Machine::default();
        (machine.mac, machine.uuid) = (self.mac, self.uuid);
        (machine.serial, machine.arch) = (self.serial.clone(), self.arch.clone());
        machine
    }
}

/// Reports the facts about the machine, and those that only the name shows.
fn report_machine(known: &Machine, told: &Machine, report: &mut Report) {
    let mut tell = |what: &str, known: Option<String>, told: Option<String>| match (known, told) {
        (Some(known), _) => report.say(what, known),
        (None, Some(told)) => report.say(what, format_args!("{told}, from the file name")),
        (None, None) => report.say(what, "unknown"),
    };
    tell("mac", known.mac.map(|mac| mac.to_string()), told.mac.map(|mac| mac.to_string()));
    tell("uuid", known.uuid.map(|uuid| uuid.to_string()), told.uuid.map(|uuid| uuid.to_string()));
    tell("serial", known.serial.clone(), told.serial.clone());
    tell("arch", known.arch.clone(), told.arch.clone());
}

fn request(args: &Explain, client: IpAddr, name: &[u8]) -> std::result::Result<Request, Refusal> {
    let mode = if args.netascii { Mode::Netascii } else { Mode::Octet };
    let options: Options = args.options.iter().filter(|(name, _)| !name.is_empty()).cloned().collect();
    let packet = packet::Request { filename: name.to_vec(), mode, options };
    let listen = args.serve.listen.first().and_then(|listen| listen.0.first().copied());
    let local = listen.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 69)));
    // The client has no port; any number will do.
    Request::new((client, 1024).into(), local, packet)
}

/// The size of the first file that exists, if it is known.
fn find(
    args: &Explain,
    candidates: &[Candidate],
    sources: &[Box<dyn Handler>],
    report: &mut Report,
) -> std::result::Result<Option<u64>, Refusal> {
    let mut search = Search::default();
    for candidate in candidates {
        let own = candidate.source().map(|source| &**source as &dyn Handler);
        let sources = own.map_or_else(|| sources.iter().map(|source| &**source).collect(), |own| vec![own]);
        for source in sources {
            let query = candidate.request().query().map(|query| format!("?{query}")).unwrap_or_default();
            let file = format!("{}{query} of {}", candidate.request().shown(), source.describe());
            let answer = look(args, source, candidate);
            match &answer {
                Ok(Found { size, origin, text }) => {
                    let size = size.map(|size| format!(", {}", bytes(size))).unwrap_or_default();
                    let rendered = if text.is_some() { ", rendered" } else { "" };
                    report.say("target", format_args!("{}{size}{rendered}", origin.as_deref().unwrap_or(&file)));
                    text.iter().flat_map(|text| text.lines()).for_each(|line| report.say("", line));
                }
                Err(refusal) => {
                    report.say("target", format_args!("{file}: {refusal}"));
                    if let Some(other) = in_other_case(args, source, candidate) {
                        report.say("", format_args!("`--ignore-case` would find {other}"));
                    }
                }
            }
            if let ControlFlow::Break(answer) = search.hear(answer) {
                return answer.map(|found| found.size);
            }
        }
    }
    Err(search
        .over()
        .unwrap_or_else(|| Refusal::not_found().because("no target of the rule has values for all its variables")))
}

/// The file of a directory whose name differs in upper and lower case only.
fn in_other_case(args: &Explain, source: &dyn Handler, candidate: &Candidate) -> Option<String> {
    if args.write || args.serve.names.ignores_case() {
        return None;
    }
    let directory = Directory::new(source.describe()).ok()?.ignore_case(true);
    smol::block_on(candidate.read(&directory)).ok()?.origin().map(Into::into)
}

/// A file, as far as it is known.
struct Found {
    size: Option<u64>,
    origin: Option<String>,
    /// The rendered text of a template file for this machine.
    text: Option<String>,
}

fn look(args: &Explain, source: &dyn Handler, candidate: &Candidate) -> std::result::Result<Found, Refusal> {
    if !args.write {
        let source = smol::block_on(candidate.read(source))?;
        let (size, origin) = (source.size(), source.origin().map(Into::into));
        let read = || smol::block_on(source.collect(usize::MAX));
        let text = candidate.is_template().then(read).transpose()?;
        return Ok(Found { size, origin, text: text.map(|text| String::from_utf8_lossy(&text).into_owned()) });
    }
    if !source.takes_writes() {
        return Err(Refusal::denied().because("this source takes no uploads: see `--upload`"));
    }
    let size = candidate.request().options().value("tsize").and_then(|size| size.parse().ok());
    let most = args.serve.max_upload.0;
    if size > Some(most) {
        let why = format!("more than {most} bytes: see `--max-upload`");
        return Err(Refusal::too_big().because(why).ending_search());
    }
    // It would make the directory of the client, if there is none.
    let own = Path::new(&source.describe()).join(candidate.request().peer().ip().to_canonical().to_string());
    let is_asked = !args.serve.uploads.upload_per_client || own.is_dir();
    match is_asked.then(|| begin_upload(source, candidate.request(), size)).transpose() {
        Err(refusal) if refusal.code() != ErrorCode::FILE_NOT_FOUND || !args.makes_directories => {
            // The server asks one source.
            Err(refusal.ending_search())
        }
        _ => Ok(Found { size: None, origin: None, text: None }),
    }
}

/// Asks the source to take an upload, until it wants the first bytes.
fn begin_upload(source: &dyn Handler, request: &Request, size: Option<u64>) -> std::result::Result<(), Refusal> {
    let (sender, wanted) = smol::channel::bounded(1);
    let data = stream::poll_fn(move |_| {
        _ = sender.try_send(());
        Poll::Pending
    });
    let data = Source::stream(data);
    let data = if let Some(size) = size { data.with_size(size) } else { data };
    let mut upload = pin!(source.write(request, data));
    smol::block_on(future::poll_fn(|cx| match upload.as_mut().poll(cx) {
        Poll::Pending if wanted.try_recv().is_ok() => Poll::Ready(Ok(())),
        polled => polled,
    }))
}

/// The limits of a server with these settings: the answer of its endpoint to the request.
fn limits(args: &Serve, request: &Request, direction: Direction) -> std::result::Result<Limits, Refusal> {
    let most = args.port_range.as_ref().map_or(usize::MAX, ExactSizeIterator::len);
    let ports = if args.single_port { vec![0] } else { (1..=most.min(ServerBuilder::TRANSFER_PORTS)).collect() };
    let mut policy = Policy::default();
    (policy.blksize, policy.windowsize) = (args.blksize, args.windowsize);
    let mut endpoint = Endpoint::new(policy, vec![Pool { listener: 0, ports }], 0);
    // The largest blocks without IP fragments on Ethernet; the server uses the MTU of the interface.
    endpoint.set_mtu(|_, client| if client.is_ipv4() { 1468 } else { 1448 });
    let (filename, mode, options) = (request.filename().to_vec(), request.mode(), request.options().clone());
    let packet = Box::new(packet::Request { filename, mode, options });
    let packet = if direction == Direction::Read { Packet::Rrq(packet) } else { Packet::Wrq(packet) };
    match endpoint.handle(Instant::now(), 0, &Envelope::new(request.peer()), &packet.encode()) {
        Action::Begin(start) => {
            let mut limits = Limits::default();
            (limits.blksize, limits.windowsize) = (start.blksize, start.windowsize);
            Ok(limits)
        }
        Action::LeaveUnanswered(why) | Action::Drop(why) => Err(Refusal::silent().because(why.reason())),
        _ => Err(Refusal::bad_request()),
    }
}

fn refused(refusal: &Refusal) -> String {
    if refusal.packet().is_some() { format!("{refusal}") } else { format!("none: {refusal}") }
}
