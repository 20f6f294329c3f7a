//! `tuffet serve`.

use std::{
    cell::RefCell,
    collections::HashMap,
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
    Builder, Error, Handler, Server,
    handlers::{Chain, Directory, Memory},
};

#[cfg(feature = "status")]
use super::status;
use super::{
    Result,
    args::Serve,
    bars::{self, MultiProgress},
    container,
    format::Format,
    limits, line,
    logging::{self, Transfers},
    restart::Restart,
    service, signals, uploads,
    values::{Listen, Source},
};
#[cfg(feature = "http")]
use super::{upstreams::Question, values::Header};

/// How often the log sums up what was too much for it.
const SUM: Duration = Duration::from_secs(10);

/// Serves until a signal ends it.
///
/// The notes are about the command line, and were known before there was a log.
pub fn run(args: &Serve, notes: &[String]) -> Result<ExitCode> {
    let sockets = service::sockets()?;
    let screen = bars::screen(args.output.quiet);
    let format = args.log_format.log_format;
    logging::start(args.output.level(), format, args.log_target.target(), screen.clone());
    super::limits::raise_open_files();
    #[cfg(all(feature = "sandbox", target_os = "linux"))]
    let entrance = super::sandbox::Entrance::new(args)?;
    #[cfg(all(feature = "sandbox", target_os = "linux"))]
    let opened = Opened::as_user(entrance.user());
    #[cfg(not(all(feature = "sandbox", target_os = "linux")))]
    let opened = Opened::default();
    let handler = handler(args, &opened)?;
    let transfers = Arc::new(Transfers::new(format, args.log_file.as_deref()).map_err(|error| no_log(&error, args))?);
    opened.settle(args);
    let restart = opened.restart.clone();
    let served = handler.describe();
    #[cfg(feature = "http")]
    let questions = opened.questions.take();
    let builder = sockets.into_iter().fold(builder(args, Some(&transfers)), Builder::socket).handler(handler);
    #[cfg(feature = "status")]
    let (status, builder) = args.status.watch(builder)?;
    let server = builder.bind().map_err(|error| explain(&error, args))?;
    restart.end(server.handle());
    let directories = opened.directories();
    // It reads the file, which may be root's.
    #[cfg(feature = "config")]
    let mut config = super::config::Reload::new(args, opened, server.handle());
    // When all is bound and opened, and before there is a second thread.
    #[cfg(all(feature = "sandbox", target_os = "linux"))]
    let user = Some(entrance.enter()?);
    #[cfg(not(all(feature = "sandbox", target_os = "linux")))]
    let user: Option<String> = None;
    // As the user that the server is by now: its limits count.
    limits::threads(args.shards)?;
    let _writing = logging::begin(transfers.clone())?;
    let drain = args.drain.into();
    let reload = move || {
        transfers.reopen();
        #[cfg(feature = "config")]
        return config.reload().map_or(drain, |args| args.drain.into());
        #[cfg(not(feature = "config"))]
        {
            look(&opened.directories());
            drain
        }
    };
    signals::obey(server.handle(), drain, reload)?;
    announce(&server, &served, user.as_deref(), args, notes);
    look(&directories);
    if args.upload {
        remove_leftovers(directories)?;
    }
    #[cfg(feature = "http")]
    super::upstreams::ask(questions);
    #[cfg(feature = "status")]
    let _status = status::serve(status, &server, &served)?;
    service::ready();
    service::watch(server.handle())?;
    show_while_running(server, screen)?;
    Ok(restart.code())
}

/// Looks whether they are the same as before, and says what is wrong with them.
pub fn look(directories: &[Directory]) {
    for directory in directories {
        if let Err(error) = directory.look() {
            warn!("cannot serve {}: {error}", directory.describe());
        }
    }
}

/// What killed servers have left, in a thread of its own: a tree may be large.
fn remove_leftovers(directories: Vec<Directory>) -> io::Result<()> {
    let remove = move || {
        let removed: usize = directories.iter().map(Directory::remove_leftovers).sum();
        if removed > 0 {
            info!("removed {removed} files of uploads that a killed server had left");
        }
    };
    thread::Builder::new().name("leftovers".into()).spawn(remove).map(drop)
}

fn no_log(error: &io::Error, args: &Serve) -> String {
    let path = args.log_file.as_deref().unwrap_or(Path::new(""));
    format!("cannot write the log {}: {error}; --log-file needs a writable file", path.display())
}

/// What answers.
pub fn handler(args: &Serve, opened: &Opened) -> Result<Box<dyn Handler>> {
    let chain = Chain::new(sources(args, opened)?);
    #[cfg(feature = "rules")]
    return super::rules::apply(args, opened, chain);
    #[cfg(not(feature = "rules"))]
    Ok(Box::new(chain))
}

/// What web servers and buckets know of it, they decide themselves.
#[cfg(feature = "rules")]
fn warn_of_case(args: &Serve) {
    let cannot = |source: &Source| match source {
        Source::Url(_) | Source::Bucket(_) => true,
        Source::Directory(_) | Source::Memory => false,
    };
    if args.names.ignore_case && all_sources(args).iter().any(cannot) {
        warn!("--ignore-case has no effect on URLs: a web server or a bucket is asked for the name as it came");
    }
}

/// What is served, each by itself.
pub fn sources(args: &Serve, opened: &Opened) -> Result<Vec<Box<dyn Handler>>> {
    let is = |kind: fn(&Source) -> bool| all_sources(args).iter().any(kind);
    if args.upload && !is(|source| !matches!(source, Source::Url(_))) {
        return Err("--upload needs a directory, a bucket or memory: for the files; name one too".into());
    }
    if args.uploads.are_of_directories() && is(|source| matches!(source, Source::Bucket(_) | Source::Memory)) {
        let options = "--upload-names, --upload-per-client and --keep-versions";
        return Err(format!("{options} are for directories alone; leave them, or the bucket or memory:, out").into());
    }
    uploads::check_own_files(args)?;
    uploads::look_at_also(args);
    args.sources.iter().map(|source| opened.source(source, args)).collect()
}

/// Whatever files may come from.
pub fn all_sources(args: &Serve) -> Vec<Source> {
    let sources = args.sources.iter().cloned();
    #[cfg(feature = "rules")]
    let sources = sources.chain(args.names.sources());
    sources.collect()
}

/// What outlives a reload: the files in memory, and the caches of web servers that are wanted after it as well.
#[derive(Default)]
pub struct Opened {
    memory: Memory,
    before: HashMap<String, Arc<dyn Handler>>,
    now: RefCell<HashMap<String, Arc<dyn Handler>>>,
    /// To those that were not open before.
    #[cfg(feature = "http")]
    pub questions: RefCell<Vec<Question>>,
    directories: RefCell<Vec<Directory>>,
    /// Who the server is, or will be, for people.
    user: Option<Arc<str>>,
    pub restart: Restart,
}

impl Opened {
    #[cfg(all(feature = "sandbox", target_os = "linux"))]
    pub fn as_user(user: String) -> Self {
        Self { user: Some(user.into()), ..Self::default() }
    }

    pub fn source(&self, source: &Source, args: &Serve) -> Result<Box<dyn Handler>> {
        // With the certificates as they are now: those of the same name may be others.
        #[cfg(feature = "http")]
        let web = (&args.web, args.web.ca.as_ref().and_then(|ca| std::fs::read_to_string(ca).ok()));
        #[cfg(not(feature = "http"))]
        let web = ();
        let (key, open): (_, &dyn Fn() -> Result<Box<dyn Handler>>) = match source {
            Source::Directory(path) => return self.directory(path, args),
            Source::Url(url) => (format!("{url} {web:?}"), &|| self.http(url, args)),
            Source::Bucket(url) => {
                (format!("{url} {web:?} {} {}", args.upload, args.overwrite), &|| self.bucket(url, args))
            }
            Source::Memory => return Ok(Box::new(self.memory.clone())),
        };
        let known = self.before.get(&key).or(self.now.borrow().get(&key)).cloned();
        let handler = known.map_or_else(|| open().map(Arc::from), Ok)?;
        self.now.borrow_mut().insert(key, handler.clone());
        Ok(Box::new(handler))
    }

    /// What was opened is served from now on: what it shares with what was served before has these settings.
    pub fn settle(&self, args: &Serve) {
        _ = self.memory.clone().overwrite(args.overwrite);
    }

    /// For a reload: what is open now may be used again.
    #[cfg(feature = "config")]
    pub fn again(&self) -> Self {
        Self {
            memory: self.memory.clone(),
            before: self.now.borrow().clone(),
            user: self.user.clone(),
            restart: self.restart.clone(),
            ..Self::default()
        }
    }

    /// All directories that are served.
    pub fn directories(&self) -> Vec<Directory> {
        self.directories.borrow().clone()
    }

    fn directory(&self, path: &Path, args: &Serve) -> Result<Box<dyn Handler>> {
        let directory = Directory::new(path).map_err(|error| {
            let fix = match error.kind() {
                ErrorKind::NotFound => "; make it, or name another directory",
                ErrorKind::NotADirectory => "; name the directory that it is in",
                ErrorKind::PermissionDenied => "; this user must be able to read it",
                _ => "",
            };
            format!("cannot serve {}: {error}{fix}", path.display())
        })?;
        #[cfg(feature = "rules")]
        let directory = directory.ignore_case(args.names.ignore_case);
        let directory = directory.uploads(args.upload).overwrite(args.overwrite).make_directories(args.mkdir);
        let restart = self.restart.clone();
        let directory = directory.on_out_of_reach(move |path| restart.need_for(path));
        let directory = self.user.iter().cloned().fold(directory, Directory::user);
        let explain = |error| format!("--upload-names {error}; a pattern is such as '*.cfg'");
        let directory = args.uploads.apply(directory).map_err(explain)?;
        self.directories.borrow_mut().push(directory.clone());
        Ok(Box::new(directory))
    }
}

impl Opened {
    #[cfg(feature = "http")]
    fn http(&self, url: &str, args: &Serve) -> Result<Box<dyn Handler>> {
        let web = &args.web;
        let mut http = tuffet::handlers::Http::base(url)?
            .cache(usize::try_from(web.cache).unwrap_or(usize::MAX))
            .read_timeout(web.upstream_timeout.into())
            .connect_timeout(web.connect_timeout.into())
            .identify(web.identify)
            .stale_if_error(web.stale);
        for Header(name, value) in &web.headers {
            http = http.header(name, value)?;
        }
        if let Some(path) = &web.ca {
            http = with_ca(path, |pem| http.root_certificates(pem))?;
        }
        let http = Arc::new(http);
        let asked = http.clone();
        self.questions.borrow_mut().push((http.describe(), Box::pin(async move { asked.ask_base().await })));
        Ok(Box::new(http))
    }

    #[cfg(not(feature = "http"))]
    fn http(&self, url: &str, _: &Serve) -> Result<Box<dyn Handler>> {
        Err(format!("cannot serve {url}: this tuffet is built without HTTP; build it with `--features http`").into())
    }

    #[cfg(feature = "object-store")]
    fn bucket(&self, url: &str, args: &Serve) -> Result<Box<dyn Handler>> {
        let web = &args.web;
        let mut bucket = tuffet::handlers::Bucket::url(url)?
            .cache(usize::try_from(web.cache).unwrap_or(usize::MAX))
            .read_timeout(web.upstream_timeout.into())
            .connect_timeout(web.connect_timeout.into())
            .stale_if_error(web.stale)
            .uploads(args.upload)
            .overwrite(args.overwrite);
        if let Some(path) = &web.ca {
            bucket = with_ca(path, |pem| bucket.root_certificates(pem))?;
        }
        let bucket = Arc::new(bucket);
        let asked = bucket.clone();
        self.questions.borrow_mut().push((bucket.describe(), Box::pin(async move { asked.ask_base().await })));
        Ok(Box::new(bucket))
    }

    #[cfg(not(feature = "object-store"))]
    fn bucket(&self, url: &str, _: &Serve) -> Result<Box<dyn Handler>> {
        Err(format!(
            "cannot serve {url}: this tuffet is built without object stores; build it with `--features object-store`"
        )
        .into())
    }
}

#[cfg(feature = "http")]
fn with_ca<T>(path: &Path, trust: impl FnOnce(&[u8]) -> std::result::Result<T, Error>) -> Result<T> {
    let explain = |error: &dyn std::fmt::Display| format!("--ca {}: {error}", path.display());
    let pem = std::fs::read(path).map_err(|error| explain(&error))?;
    Ok(trust(&pem).map_err(|error| explain(&error))?)
}

/// The settings of the server, and where the records go.
pub fn builder(args: &Serve, transfers: Option<&Arc<Transfers>>) -> Builder {
    let mut builder = Server::builder()
        .single_port(args.single_port)
        .shards(args.shards)
        .timeout(args.timeout.into())
        .patience(args.patience.into())
        .max_transfers(args.max_transfers)
        .drain(args.drain.into());
    if let Some(windowsize) = args.windowsize {
        builder = builder.windowsize(windowsize);
    }
    builder = args.limits.apply(builder);
    #[cfg(feature = "rules")]
    let mut builder = args.access.apply(builder);
    for address in args.listen.iter().flat_map(available) {
        builder = builder.listen(address);
    }
    if let Some(transfers) = transfers {
        let (each, floods) = (transfers.clone(), transfers.clone());
        builder = builder.on_end(move |record| each.tell(record)).counter(logging::lost());
        builder = builder.on_period(SUM, move |_| floods.sum_up());
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
    if let Some(most) = args.max_upload {
        builder = builder.max_upload(most);
    }
    builder
}

/// All addresses of both families are those of one, where the system has only one.
fn available(listen: &Listen) -> Vec<SocketAddr> {
    let addresses = listen.0.iter().copied();
    let found: Vec<_> = addresses.filter(|address| UdpSocket::bind((address.ip(), 0)).is_ok()).collect();
    if found.is_empty() { listen.0.clone() } else { found }
}

fn explain(error: &Error, args: &Serve) -> String {
    let Error::Bind(address, cause) = error else { return error.to_string() };
    let is_transfer_port = args.port_range.as_ref().is_some_and(|ports| ports.contains(&address.port()));
    let fix = match cause.kind() {
        ErrorKind::AddrInUse if is_transfer_port => "no port of --port-range is free; widen it".to_owned(),
        ErrorKind::PermissionDenied => {
            "ports below 1024 need root or `setcap cap_net_bind_service=+ep tuffet`; or choose another: --listen :6969"
                .to_owned()
        }
        ErrorKind::AddrInUse => format!(
            "another server has it, `ss -lunp sport = :{}` says which; or choose another: --listen {}",
            address.port(),
            another(*address, 6969, |address| UdpSocket::bind(address).map(drop)),
        ),
        ErrorKind::AddrNotAvailable => "this machine has no such address; `ip address` lists those it has".to_owned(),
        _ => return error.to_string(),
    };
    format!("cannot bind {address}: {cause}; {fix}")
}

/// An address like this one, with a port that is free: this one or the next that is.
pub fn another(taken: SocketAddr, first: u16, bind: impl Fn(SocketAddr) -> io::Result<()>) -> String {
    let free = (first..=u16::MAX).map(|port| SocketAddr::new(taken.ip(), port)).find(|address| bind(*address).is_ok());
    let port = free.map_or(first, |address| address.port());
    if taken.ip().is_unspecified() { format!(":{port}") } else { SocketAddr::new(taken.ip(), port).to_string() }
}

/// What is set and does nothing.
pub fn without_effect(args: &Serve, matches: &ArgMatches) -> Vec<String> {
    let sources = all_sources(args);
    let takes_uploads = args.upload || sources.contains(&Source::Memory);
    let has_web = sources.iter().any(|source| matches!(source, Source::Url(_) | Source::Bucket(_)));
    line::without_effect(matches, takes_uploads, has_web)
}

/// Standard output has the addresses and nothing else, so that a script can read what port 0 became; the rest is for
/// people, on standard error.
fn announce(server: &Server, served: &str, user: Option<&str>, args: &Serve, notes: &[String]) {
    let mut out = io::stdout().lock();
    // A script reads it also where people are told nothing.
    let is_told = !args.output.quiet || !out.is_terminal();
    for address in server.addrs().iter().filter(|_| is_told) {
        // A closed pipe is no reason not to serve.
        _ = writeln!(out, "listening on {address}");
    }
    _ = out.flush();
    for warning in notes.iter().chain(server.warnings()) {
        warn!("{warning}");
    }
    #[cfg(feature = "rules")]
    warn_of_case(args);
    let serves_others = server.addrs().iter().any(|address| !address.ip().is_loopback());
    if let Some(hint) = container::hint(args.single_port).filter(|_| serves_others) {
        info!("{hint}");
    }
    if args.log_format.log_format != Format::Text {
        info!("serving {served}");
    } else if !args.output.quiet {
        _ = write!(io::stderr(), "{}", banner(server.addrs(), served, user, args));
    }
}

fn banner(addrs: &[SocketAddr], served: &str, user: Option<&str>, args: &Serve) -> String {
    let takes_uploads = args.upload || args.sources.contains(&Source::Memory);
    let uploads = if takes_uploads { "uploads allowed" } else { "read only" };
    let user = user.map(|user| format!(" as user {user}")).unwrap_or_default();
    let mut text = format!("serving {served}{user} ({uploads})\n");
    // Most clients know nothing but IPv4.
    if let Some(address) = addrs.iter().find(|address| address.is_ipv4()).or(addrs.first()) {
        let (ip, port) = (reachable(address.ip()), address.port());
        let name = args.sources.iter().find_map(example).unwrap_or_else(|| "NAME".into());
        text += "fetch from it with\n";
        text += &format!("    tuffet get {} {name}\n", SocketAddr::new(ip, port));
        text += &format!("    tftp -m binary {ip} {port} -c get {name}\n");
    }
    text
}

/// An address of this machine that others may reach.
fn reachable(ip: IpAddr) -> IpAddr {
    // Connecting a UDP socket sends nothing; the addresses are those of documentation.
    let (other, loopback): (IpAddr, IpAddr) = match ip {
        ip if !ip.is_unspecified() => return ip,
        IpAddr::V4(_) => (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(_) => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), Ipv6Addr::LOCALHOST.into()),
    };
    let outgoing = || {
        let socket = UdpSocket::bind((ip, 0))?;
        socket.connect((other, 9))?;
        socket.local_addr()
    };
    outgoing().map_or(loopback, |address| address.ip())
}

/// The name of a file that can be fetched and typed, by the user that the server is now.
fn example(source: &Source) -> Option<String> {
    let Source::Directory(path) = source else { return None };
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
            warn!("there are no progress bars: {}", limits::no_thread(&error));
        }
        let result = server.run();
        drop::<mpsc::Sender<()>>(running);
        Ok(result?)
    })
}
