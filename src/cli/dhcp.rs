//! ProxyDHCP of `tuffet serve`: its interfaces, and the boot files of machines.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use clap::{ArgAction, Args};
use log::{info, warn};
use tuffet::{
    Error, Server, ServerBuilder,
    dhcp::{CurrentProxy, Interface, Proxy, Rule, Serving, Sockets},
};

mod report;

use super::{Result, args::Serve, format::Format, logging::Transfers, serve, sources::Opened, values};

/// The port to which firmware sends its requests, whatever port the answer names.
const TFTP: u16 = 69;

#[derive(Args, Debug)]
pub struct Dhcp {
    /// Tell machines their boot file, beside the network's own DHCP server: ProxyDHCP (Linux)
    #[arg(long, env = "TUFFET_DHCP", action = ArgAction::SetTrue, value_parser = values::switch)]
    #[arg(help_heading = "Network")]
    pub dhcp: bool,

    /// Answer by ProxyDHCP on this interface; may be repeated [default: all that the server listens on]
    #[arg(long, value_name = "NAME", env = "TUFFET_DHCP_INTERFACE", value_delimiter = ',')]
    #[arg(help_heading = "Network")]
    pub dhcp_interface: Vec<String>,

    /// Boot file or URL of some machines: `arch=x64,mac=52:54:00=>FILE`; the first match counts
    #[arg(long, value_name = "RULE", env = "TUFFET_DHCP_BOOT", value_delimiter = '\n')]
    #[arg(help_heading = "Names")]
    pub dhcp_boot: Vec<Boot>,

    /// The rules of the configuration file. They follow the rules of the command line.
    #[arg(skip)]
    pub tables: Vec<Rule>,

    /// Whether the server must not start without a boot file.
    #[arg(skip)]
    pub needed: bool,
}

/// A rule of the command line.
#[derive(Clone, Debug)]
pub struct Boot(Rule);

/// Parses `arch=x64,uuid=01234567-89ab-cdef-0123-456789abcdef,mac=52:54:00,ipxe=false=>FILE`. A condition may be
/// missing, and may appear several times. Without FILE the machine gets no answer.
impl FromStr for Boot {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (machines, file) = text.split_once("=>").ok_or("not MACHINES=>FILE, such as arch=x64=>grubx64.efi")?;
        let rule = Rule::new(format!("--dhcp-boot '{text}'"), file.trim());
        let conditions = machines.split(',').map(str::trim).filter(|condition| !condition.is_empty());
        let rule = conditions.into_iter().try_fold(rule, |rule, condition| {
            let (key, value) = condition.split_once('=').ok_or_else(|| format!("{condition:?} is not KEY=VALUE"))?;
            condition_of(rule, key.trim(), value.trim())
        });
        rule.map(Self)
    }
}

/// Adds a condition of the command line or of the configuration file to a rule.
pub fn condition_of(rule: Rule, key: &str, value: &str) -> std::result::Result<Rule, String> {
    match key {
        "arch" => parse(value).map(|arches| rule.arch(arches)),
        "uuid" => parse(value).map(|uuid| rule.uuid(uuid)),
        "mac" => parse(value).map(|mac| rule.mac(mac)),
        "ipxe" => match value.parse() {
            Ok(ipxe) => Ok(rule.ipxe(ipxe)),
            Err(_) => Err(format!("{value:?} is neither true nor false")),
        },
        _ => Err(format!("{key}: unknown key; use arch, uuid, mac or ipxe")),
    }
}

fn parse<T: FromStr<Err: Display>>(value: &str) -> std::result::Result<T, String> {
    value.parse().map_err(|why| format!("{value:?} is {why}"))
}

impl Dhcp {
    /// Binds the ports of ProxyDHCP, if `--dhcp` is given, and adds its counters to those of the server.
    pub fn bind(
        &self,
        args: &Serve,
        (opened, log): (&Opened, &Arc<Transfers>),
        builder: ServerBuilder,
    ) -> Result<(Option<Sockets>, ServerBuilder)> {
        if !self.dhcp {
            return Ok((None, builder));
        }
        Self::settle(args, &opened.boots);
        let sockets = Sockets::bind(chosen(args)?, opened.boots.clone()).map_err(|error| explain(&error))?;
        let (log, restart) = (log.clone(), opened.restart.clone());
        let sockets = sockets.record_machines(&opened.machines).on_request(move |told| log.log_dhcp_request(&told));
        let sockets = sockets.on_out_of_reach(move |interface| restart.need_for_interface(interface));
        let builder = builder.watch_dhcp(&sockets);
        Ok((Some(sockets), builder))
    }

    /// Sets the rules for all later packets.
    pub fn settle(args: &Serve, live: &CurrentProxy) {
        live.change(|proxy| proxy.rules(args.dhcp.rules()));
    }

    fn rules(&self) -> Vec<Rule> {
        self.dhcp_boot.iter().map(|boot| boot.0.clone()).chain(self.tables.iter().cloned()).collect()
    }
}

/// The proxy of these options, without a server.
pub fn settings(args: &Serve) -> Proxy {
    let tftp: Vec<SocketAddr> = args.listen.iter().flat_map(|listen| &listen.0).copied().collect();
    let http: Vec<SocketAddr> = args.http.http.iter().flat_map(|http| &http.0).copied().collect();
    places(Proxy::default().rules(args.dhcp.rules()), &tftp, &http)
}

/// Sets the TFTP port and the HTTP addresses that machines get, out of the addresses of the server.
fn places(proxy: Proxy, tftp: &[SocketAddr], http: &[SocketAddr]) -> Proxy {
    let http = http.iter().filter_map(|address| match address {
        SocketAddr::V4(address) => Some(*address).filter(|address| !address.ip().is_loopback()),
        SocketAddr::V6(_) => None,
    });
    proxy.tftp(port(tftp)).http(http)
}

/// The TFTP port that machines get.
fn port(addresses: &[SocketAddr]) -> u16 {
    let is_usual = addresses.iter().any(|address| address.port() == TFTP);
    addresses.first().filter(|_| !is_usual).map_or(TFTP, SocketAddr::port)
}

/// The server address that machines get, as far as it is known before a machine asks.
pub fn server(args: &Serve) -> Ipv4Addr {
    let listened = args.listen.iter().flat_map(|listen| &listen.0).find_map(|address| match address.ip() {
        IpAddr::V4(ip) if !ip.is_unspecified() => Some(ip),
        _ => None,
    });
    listened.or_else(|| outgoing(args)).unwrap_or(Ipv4Addr::UNSPECIFIED)
}

/// An address of the interfaces on which ProxyDHCP answers: the source address of outgoing traffic, or the first
/// address.
fn outgoing(args: &Serve) -> Option<Ipv4Addr> {
    let names: Vec<String> = chosen(args).ok()?.into_iter().map(|interface| interface.name).collect();
    let all = tuffet::dhcp::interfaces().ok()?.into_iter().filter(|interface| names.contains(&interface.name));
    let addresses: Vec<Ipv4Addr> = all.flat_map(|interface| interface.addresses).collect();
    let used = serve::outgoing(Ipv4Addr::UNSPECIFIED.into()).ok();
    addresses.iter().find(|address| used == Some(IpAddr::V4(**address))).or(addresses.first()).copied()
}

/// Looks for boot files in the sources. Returns what each kind of machine will get, for people.
///
/// The search has the user and the sandbox of the server, so it finds only files that the server can serve.
///
/// # Errors
/// If the sources have no boot file or cannot be searched, and the command needs a boot file.
pub fn look(sockets: Option<&Sockets>, server: &Server, served: &str, args: &Serve) -> Result<String> {
    let Some(sockets) = sockets else { return Ok(String::new()) };
    sockets.live().change(|proxy| places(proxy, server.addrs(), server.http_addrs()));
    let proxy = sockets.look(&server.handle());
    let failure = proxy.failure().map(|failure| format!("cannot look for boot files in {served}: {failure}"));
    if proxy.is_empty() && args.dhcp.needed {
        return Err(failure.unwrap_or_else(|| report::nothing(served)).into());
    }
    if let Some(failure) = failure {
        warn!("dhcp: {failure}");
    }
    Ok(report::report(&proxy, served, self::server(args)))
}

/// Shows the report of [`look`].
pub fn tell(report: &str, args: &Serve) {
    if args.log_format.log_format != Format::Text {
        report.lines().for_each(|line| info!("dhcp: {}", line.trim_start()));
    } else if !args.output.quiet {
        _ = write!(io::stderr(), "{report}");
    }
}

/// Starts the thread that answers.
pub fn serve(sockets: Option<Sockets>, server: &Server) -> Result<Option<Serving>> {
    let Some(sockets) = sockets else { return Ok(None) };
    let names: Vec<&str> = sockets.interfaces().collect();
    info!(
        "dhcp: machines on {} get boot files from this server, and addresses from the network's own DHCP server",
        names.join(", ")
    );
    if port(server.addrs()) != TFTP {
        warn!(
            "dhcp: firmware sends its requests to port {TFTP}, on which this server does not listen; use --listen \
             :{TFTP}"
        );
    }
    Ok(Some(sockets.serve(server.handle())?))
}

/// The interfaces that the options name, or else the interfaces on which the server listens.
pub fn chosen(args: &Serve) -> Result<Vec<Interface>> {
    let all = tuffet::dhcp::interfaces().map_err(|error| format!("--dhcp: {error}"))?;
    if all.is_empty() {
        let why = "this machine has no interface that is up and has an IPv4 address; `ip address` lists them";
        return Err(format!("--dhcp: {why}").into());
    }
    let named =
        args.dhcp.dhcp_interface.iter().chain(args.interface.iter().filter(|_| args.dhcp.dhcp_interface.is_empty()));
    let mut named = named.peekable();
    let mut found = Vec::new();
    if named.peek().is_some() {
        for name in named {
            let known = all.iter().find(|interface| interface.name == *name);
            let none = || format!("--dhcp: no interface {name} is up and has an IPv4 address; `ip address` lists them");
            found.push(known.cloned().ok_or_else(none)?);
        }
    } else {
        found = all;
    }
    let mut found = listening(found, args);
    found.dedup();
    if found.is_empty() {
        let why = "the server listens on no IPv4 address of a network; set --listen or --dhcp-interface";
        return Err(format!("--dhcp: {why}").into());
    }
    Ok(found)
}

/// The interfaces on which the server listens, with the addresses that machines may get. If the server listens on all
/// addresses, machines may get any of them, and the list of each interface is empty.
fn listening(all: Vec<Interface>, args: &Serve) -> Vec<Interface> {
    let listen: Vec<IpAddr> = args.listen.iter().flat_map(|listen| &listen.0).map(SocketAddr::ip).collect();
    let everywhere = listen.is_empty() || listen.contains(&Ipv4Addr::UNSPECIFIED.into());
    let all = all.into_iter().map(|mut interface| {
        interface.addresses.retain(|address| everywhere || listen.contains(&IpAddr::V4(*address)));
        interface
    });
    // If the server listens on all addresses, an address may come and go.
    let told = |interface: Interface| Interface {
        addresses: if everywhere { Vec::new() } else { interface.addresses },
        ..interface
    };
    all.filter(|interface| !interface.addresses.is_empty()).map(told).collect()
}

fn explain(error: &Error) -> String {
    let Error::Bind(address, cause) = error else { return error.to_string() };
    let port = address.port();
    let fix = match cause.kind() {
        ErrorKind::PermissionDenied => "this needs root or `setcap cap_net_bind_service=+ep tuffet`".to_owned(),
        ErrorKind::AddrInUse => format!(
            "a DHCP server on this machine uses it, and can announce boot files itself; `ss -lunp sport = :{port}` \
             shows it"
        ),
        _ => return format!("--dhcp: {error}"),
    };
    format!("--dhcp: cannot bind port {port}: {cause}; {fix}")
}

#[cfg(test)]
mod tests {
    use tuffet::dhcp::Machine;

    use super::*;

    #[test]
    fn rules_of_the_command_line() {
        let proxy = |texts: &[&str]| {
            let rules = texts.iter().map(|text| text.parse::<Boot>().unwrap().0);
            Proxy::default().rules(rules.collect())
        };
        let machine = |arch: &str, mac: &str| Machine::new(arch.parse().unwrap()).mac(mac.parse().unwrap());
        let proxy =
            proxy(&["mac=52:54:01=>", "arch=x64, arch=arm64,mac=52:54:00 => a b.efi", "ipxe=true=>menu", "=>other"]);
        let file = |machine| proxy.choose(&machine).map(|chosen| chosen.file);
        assert_eq!(file(machine("x64", "52:54:00:00:00:01")).unwrap(), "a b.efi");
        assert_eq!(file(machine("arm64", "52:54:00:00:00:01")).unwrap(), "a b.efi");
        assert_eq!(file(machine("bios", "52:54:00:00:00:01")).unwrap(), "other");
        assert_eq!(file(machine("bios", "52:54:00:00:00:01").with_ipxe()).unwrap(), "menu");
        assert!(file(machine("x64", "52:54:01:00:00:01")).unwrap_err().to_string().contains("gives it no answer"));
        for (bad, why) in [
            ("x", "not MACHINES=>FILE"),
            ("x64=>y", "is not KEY=VALUE"),
            ("arch=amiga=>y", "not an architecture"),
            ("uuid=1=>y", "not a UUID"),
            ("mac=5=>y", "not the beginning of a MAC"),
            ("ipxe=maybe=>y", "neither true nor false"),
            ("os=linux=>y", "unknown key"),
        ] {
            let error = bad.parse::<Boot>().unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
