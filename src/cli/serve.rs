//! `tuffet serve`.

use std::{
    fs::File,
    io::{self, ErrorKind, IsTerminal, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use clap::ArgMatches;
use log::{info, warn};
use tuffet::{
    Error, Handler, Server, ServerBuilder,
    handlers::{Chain, Directory},
};

use super::{
    Result,
    args::Serve,
    bars::{self, MultiProgress},
    command_line, config, container, dhcp, files,
    format::{Format, count},
    limits,
    logging::{self, Transfers},
    restart::Restart,
    rules, sandbox, service, signals,
    sources::{self, Opened, Source},
    status, uploads,
};

/// How often the log sums up floods, and the server looks at its interface.
const PERIOD: Duration = Duration::from_secs(10);

/// Serves until a signal ends it.
///
/// The notes are about the command line, and come from before the log began.
pub fn run(args: &Serve, notes: &[String]) -> Result<ExitCode> {
    let sockets = service::sockets()?;
    let screen = bars::screen(args.output.quiet);
    let format = args.log_format.log_format;
    logging::start(args.output.level(), format, args.log_target.target(), screen.clone());
    super::limits::raise_open_files();
    let entrance = sandbox::Entrance::new(args)?;
    let opened = Opened::as_user(entrance.user());
    let handler = handler(args, &opened)?;
    // A helper outside of the sandbox must start before the sandbox.
    let notifier = args.notify.open(args, &entrance)?;
    let transfers = Arc::new(Transfers::new(format, args.log_file.as_deref()).map_err(|error| no_log(&error, args))?);
    let restart = opened.restart.clone();
    let served = handler.describe();
    let questions = opened.questions();
    let builder = builder(args, Some((&transfers, &restart)));
    let builder = sockets.into_iter().fold(builder, ServerBuilder::socket).handler(handler);
    let (status, builder) = args.status.watch(builder)?;
    let (boots, builder) = args.dhcp.bind(args, (&opened, &transfers), builder)?;
    // The helper that runs commands after uploads has begun, with the umask of the start.
    files::allow_umask(args.uploads.umask);
    let server = notifier.watch(builder).bind().map_err(|error| explain(&error, args))?;
    restart.end(server.handle());
    transfers.watch(server.handle());
    let directories = opened.directories();
    // This reads the file, which root may own.
    let mut config = config::Reload::new(args, opened, server.handle());
    // After everything is bound and opened, and before there is a second thread.
    let entered = entrance.enter()?;
    // As the new user of the server, because its limits count.
    limits::threads(args.shards + limits::BESIDES)?;
    let _writing = logging::begin(transfers.clone())?;
    let _telling = notifier.begin()?;
    let drain = args.drain.into();
    let reload = move || {
        transfers.reopen();
        config.reload().map_or(drain, |args| args.drain.into())
    };
    signals::obey(server.handle(), drain, reload)?;
    let report = dhcp::look(boots.as_ref(), &server, &served, args)?;
    entered.tell();
    dhcp::tell(&report, args);
    announce(&server, &served, entered.user.as_deref(), args, notes);
    look(&directories);
    if args.upload {
        remove_leftovers(directories)?;
    }
    questions.ask();
    let _status = status::serve(status, &server, &served)?;
    let _boots = dhcp::serve(boots, &server)?;
    service::ready();
    service::watch(server.handle())?;
    show_while_running(server, screen)?;
    Ok(restart.code())
}

/// Looks for replaced directories, and logs errors.
pub fn look(directories: &[Directory]) {
    for directory in directories {
        if let Err(error) = directory.look() {
            warn!("{error}");
        }
    }
}

/// Removes the files that killed servers left, in a thread of its own, because a tree may be large.
fn remove_leftovers(directories: Vec<Directory>) -> io::Result<()> {
    let remove = move || {
        let removed: usize = directories.iter().map(Directory::remove_leftovers).sum();
        if removed > 0 {
            info!("removed {} of uploads that a killed server had left", count(removed as u64, "file"));
        }
    };
    thread::Builder::new().name("leftovers".into()).spawn(remove).map(drop)
}

/// The error of a log file that cannot be there, without an attempt to make it.
#[cfg(feature = "full")]
pub fn misplaced_log(args: &Serve) -> Option<String> {
    let log = args.log_file.as_deref()?;
    let parent = log.parent().filter(|parent| *parent != Path::new(""));
    let error = match parent.map_or(Ok(()), |parent| std::fs::read_dir(parent).map(drop)) {
        Err(error) => error,
        Ok(()) if log.is_dir() => io::ErrorKind::IsADirectory.into(),
        Ok(()) => return None,
    };
    Some(no_log(&error, args))
}

fn no_log(error: &io::Error, args: &Serve) -> String {
    let path = args.log_file.as_deref().unwrap_or(Path::new(""));
    format!("cannot write the log {}: {error}; --log-file needs a writable file", path.display())
}

/// The handler of the server.
pub fn handler(args: &Serve, opened: &Opened) -> Result<Box<dyn Handler>> {
    rules::apply(args, opened, Chain::new(open(args, opened)?))
}

/// Warns of sources that get the name as the client sent it.
fn warn_of_case(args: &Serve) {
    if args.names.ignores_case() && sources::all(args).iter().any(|source| source.directory().is_none()) {
        warn!("--ignore-case has an effect in directories only: other sources get the name as the client sent it");
    }
}

/// The handler of each source.
pub fn open(args: &Serve, opened: &Opened) -> Result<Vec<Box<dyn Handler>>> {
    sources::check_uploads(args)?;
    uploads::check_own_files(args)?;
    uploads::look_at_also(args);
    args.sources.iter().map(|source| source.open(args, opened)).collect()
}

/// The settings of the server, and the destinations of its records.
pub fn builder(args: &Serve, running: Option<(&Arc<Transfers>, &Restart)>) -> ServerBuilder {
    let mut builder = Server::builder()
        .single_port(args.single_port)
        .shards(args.shards)
        .timeout(args.timeout.into())
        .patience(args.patience.into())
        .max_transfers(args.max_transfers)
        .max_upload(args.max_upload.0)
        .drain(args.drain.into());
    if let Some(windowsize) = args.windowsize {
        builder = builder.windowsize(windowsize);
    }
    builder = args.access.apply(args.limits.apply(builder));
    for address in args.listen.iter().flat_map(|listen| available(&listen.0)) {
        builder = builder.listen(address);
    }
    #[cfg(feature = "web")]
    {
        builder = args.http.apply(builder);
    }
    if let Some((transfers, restart)) = running {
        let (each, floods) = (transfers.clone(), transfers.clone());
        let (look, watch) = (restart.watch(args.interface.as_deref()), sandbox::watch(args));
        builder = builder.on_end(move |record| each.tell(record)).counter(logging::lost());
        builder = builder.on_period(PERIOD, move |counters| {
            floods.sum_up();
            tell_dropped(counters.dropped);
            look();
            watch();
        });
    }
    if let Some(ports) = args.port_range.clone() {
        builder = builder.port_range(ports);
    }
    if let Some(interface) = &args.interface {
        builder = builder.interface(interface);
    }
    if let Some(most) = args.blksize {
        builder = builder.blksize(most);
    }
    builder
}

/// Warns of datagrams that the system dropped, if it dropped any.
fn tell_dropped(datagrams: u64) {
    if datagrams > 0 {
        warn!(
            "the system dropped {}, because the receive buffers of this server were full: sysctl \
             net.core.rmem_max=4194304 allows larger ones, unless it was started as root, and more --shards empty \
             them faster",
            count(datagrams, "datagram")
        );
    }
}

/// The addresses of all families that the system has.
pub fn available(listen: &[SocketAddr]) -> Vec<SocketAddr> {
    let addresses = listen.iter().copied();
    let found: Vec<_> = addresses.filter(|address| UdpSocket::bind((address.ip(), 0)).is_ok()).collect();
    if found.is_empty() { listen.to_vec() } else { found }
}

fn explain(error: &Error, args: &Serve) -> String {
    let Error::Bind(address, cause) = error else { return error.to_string() };
    #[cfg(feature = "web")]
    if let Some(why) = args.http.explain(*address, cause) {
        return why;
    }
    let is_asked = args.listen.iter().any(|listen| listen.0.contains(address));
    let is_transfer_port = !is_asked && args.port_range.as_ref().is_some_and(|ports| ports.contains(&address.port()));
    let fix = match cause.kind() {
        ErrorKind::AddrInUse if is_transfer_port => "no port of --port-range is free; widen it".to_owned(),
        ErrorKind::PermissionDenied => {
            "ports below 1024 need root or `setcap cap_net_bind_service=+ep tuffet`; or use another port: --listen \
             :6969"
                .to_owned()
        }
        ErrorKind::AddrInUse => format!(
            "another program uses it, `ss -lunp sport = :{}` shows which; or use another port: --listen {}",
            address.port(),
            another(*address, 6969, |address| UdpSocket::bind(address).map(drop)),
        ),
        ErrorKind::AddrNotAvailable => "this machine has no such address; `ip address` lists its addresses".to_owned(),
        _ => return error.to_string(),
    };
    format!("cannot bind {address}: {cause}; {fix}")
}

/// An address like this one, with the next free port from `first` on.
pub fn another(taken: SocketAddr, first: u16, bind: impl Fn(SocketAddr) -> io::Result<()>) -> String {
    let free = (first..=u16::MAX).map(|port| SocketAddr::new(taken.ip(), port)).find(|address| bind(*address).is_ok());
    let port = free.map_or(first, |address| address.port());
    if taken.ip().is_unspecified() { format!(":{port}") } else { SocketAddr::new(taken.ip(), port).to_string() }
}

/// The options that are set and have no effect.
pub fn without_effect(args: &Serve, matches: &ArgMatches) -> Vec<String> {
    let asks_others = sources::all(args).iter().any(|source| source.url().is_some());
    command_line::without_effect(matches, args.upload || sources::takes_uploads(args), asks_others)
}

/// Prints the addresses alone on standard output, so that a script can read the actual port for port 0. All the rest
/// goes to standard error, for people.
fn announce(server: &Server, served: &str, user: Option<&str>, args: &Serve, notes: &[String]) {
    let mut out = io::stdout().lock();
    // Scripts read the addresses even with --quiet.
    let is_told = !args.output.quiet || !out.is_terminal();
    for address in server.addrs().iter().filter(|_| is_told) {
        // A closed pipe is no reason not to serve.
        _ = writeln!(out, "listening on {address}");
    }
    #[cfg(feature = "web")]
    if is_told {
        super::http::print_addresses(&mut out, server.http_addrs());
    }
    _ = out.flush();
    for warning in notes.iter().chain(server.warnings()) {
        warn!("{warning}");
    }
    warn_of_case(args);
    let serves_others = server.addrs().iter().any(|address| !address.ip().is_loopback());
    if let Some(hint) = container::hint(args.single_port).filter(|_| serves_others) {
        info!("{hint}");
    }
    let addrs = [
        server.addrs(),
        #[cfg(feature = "web")]
        server.http_addrs(),
    ];
    addrs.into_iter().filter_map(ipv6_alone).for_each(|hint| info!("{hint}"));
    if args.log_format.log_format != Format::Text {
        info!("serving {served}");
    } else if !args.output.quiet {
        _ = write!(io::stderr(), "{}", banner(server, served, user, args));
    }
}

fn banner(server: &Server, served: &str, user: Option<&str>, args: &Serve) -> String {
    let uploads = if sources::takes_uploads(args) { "uploads allowed" } else { "read only" };
    let user = user.map(|user| format!(" as user {user}")).unwrap_or_default();
    let mut text = format!("serving {served}{user} ({uploads})\n");
    // Most clients know only IPv4.
    let name = args.sources.iter().find_map(example).unwrap_or_else(|| "NAME".into());
    if let Some(address) = place(server.addrs()) {
        let host = match address {
            SocketAddr::V6(address) if address.scope_id() != 0 => format!("{}%{}", address.ip(), address.scope_id()),
            _ => address.ip().to_string(),
        };
        text += "fetch from it with\n";
        text += &format!("    tuffet get {address} {name}\n");
        text += &format!("    tftp -m binary {host} {} -c get {name}\n", address.port());
    }
    #[cfg(feature = "web")]
    if let Some(address) = place(server.http_addrs()) {
        text += &format!("    curl -O http://{address}/{name}\n");
    }
    text
}

/// A hint for those who expect IPv4 clients at all addresses of IPv6, as many other servers have them.
fn ipv6_alone(addrs: &[SocketAddr]) -> Option<String> {
    let all = addrs.iter().find(|address| address.is_ipv6() && address.ip().is_unspecified())?;
    let has_ipv4 = addrs.iter().any(SocketAddr::is_ipv4);
    (!has_ipv4).then(|| format!("{all} hears IPv6 alone; :{} hears IPv4 too", all.port()))
}

/// An address and port by which others may reach the server.
fn place(addrs: &[SocketAddr]) -> Option<SocketAddr> {
    let mut address = *addrs.iter().find(|address| address.is_ipv4()).or(addrs.first())?;
    address.set_ip(reachable(address.ip()));
    Some(address)
}

/// An address of this machine by which others may reach it.
fn reachable(ip: IpAddr) -> IpAddr {
    let loopback: IpAddr = match ip {
        ip if !ip.is_unspecified() => return ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    outgoing(ip).unwrap_or(loopback)
}

/// The source address of outgoing traffic, of the family of this unspecified address.
pub fn outgoing(unspecified: IpAddr) -> io::Result<IpAddr> {
    // The addresses are reserved for documentation, and `connect` on a UDP socket sends nothing.
    let other: IpAddr = match unspecified {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let socket = UdpSocket::bind((unspecified, 0))?;
    socket.connect((other, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// The name of a file that the server's present user can read and a person can type.
fn example(source: &Source) -> Option<String> {
    let path = source.directory()?;
    let is_plain = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
    let can_be_read = |path: &Path| path.is_file() && File::open(path).is_ok();
    let files = path.read_dir().ok()?.take(100).flatten().filter(|entry| can_be_read(&entry.path()));
    files.filter_map(|file| file.file_name().into_string().ok()).filter(|name| !name.starts_with('.')).find(is_plain)
}

fn show_while_running(server: Server, screen: MultiProgress) -> Result<()> {
    if screen.is_hidden() {
        return Ok(server.run()?);
    }
    let handle = server.handle();
    thread::scope(|threads| {
        let (running, over) = mpsc::channel();
        let watch = thread::Builder::new().spawn_scoped(threads, move || bars::watch(screen, &handle, &over));
        if let Err(error) = watch {
            warn!("no progress bars: {}", limits::no_thread(&error));
        }
        let result = server.run();
        drop::<mpsc::Sender<()>>(running);
        Ok(result?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_alone_is_told() {
        let hint =
            |addrs: &[&str]| ipv6_alone(&addrs.iter().map(|address| address.parse().unwrap()).collect::<Vec<_>>());
        assert!(hint(&["[::1]:69", "[::]:70"]).unwrap().ends_with(":70 hears IPv4 too"));
        assert_eq!(hint(&["0.0.0.0:69", "[::]:69"]), None);
        assert_eq!(hint(&["[::1]:69"]), None);
    }

    #[test]
    fn a_link_local_address_keeps_its_interface() {
        let address: SocketAddr = "[fe80::1%3]:69".parse().unwrap();
        assert_eq!(place(&[address]), Some(address));
    }
}
