//! The privileges that the server gives up when its sockets are bound: root, capabilities, and all files and ports but
//! its own.
//!
//! This happens in one place, before there is a second thread. One line in the log says which measures the system
//! supports.

mod capabilities;
mod landlock;
mod readable;
mod user;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use clap::{ArgAction, Args};
use log::{Level, warn};

use super::{
    Result,
    args::Serve,
    restart,
    sources::{self, Source},
    upstreams, values,
};
use user::Identity;

#[derive(Args, Debug)]
pub struct Sandbox {
    /// When started as root, become this user [default: the directory's owner, or nobody]
    #[arg(long, value_name = "USER[:GROUP]", env = "TUFFET_USER", help_heading = "Safety")]
    pub user: Option<String>,

    /// Let the process open any file and TCP port that its user may: no landlock
    #[arg(long, env = "TUFFET_NO_LANDLOCK", action = ArgAction::SetTrue, value_parser = values::switch)]
    #[arg(help_heading = "Safety")]
    pub no_landlock: bool,

    /// Keep all privileges: no landlock, all capabilities, the user who started it
    #[arg(long, env = "TUFFET_NO_SANDBOX", action = ArgAction::SetTrue, value_parser = values::switch)]
    #[arg(help_heading = "Safety")]
    pub no_sandbox: bool,
}

/// The privileges that the server needs, and so keeps.
#[derive(Debug, Default)]
pub struct Plan {
    /// The user of `--user`.
    pub user: Option<String>,
    pub is_off: bool,
    pub landlock: bool,
    /// The served directories, and whether they take uploads.
    pub directories: Vec<(PathBuf, Use)>,
    /// Files that are read later, or directories with all their files.
    pub readable: Vec<PathBuf>,
    /// The directories that links may lead to.
    pub also: Vec<PathBuf>,
    /// Files that are later opened again and appended to, or made anew.
    pub logs: Vec<PathBuf>,
    /// The TCP ports of other servers to connect to.
    pub connects: Vec<u16>,
}

/// Checks that the user of `--user` exists. A user who checks a file need not be able to become it.
pub fn check_user(args: &Serve) -> Result<()> {
    let named = args.sandbox.user.as_deref().map(|user| (user, Identity::named(user)));
    match named {
        Some((user, Err(error))) => Err(format!("--user {user}: {error}").into()),
        _ => Ok(()),
    }
}

/// Each includes the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Use {
    Read,
    /// Uploads.
    Write,
    /// Uploads that also make directories.
    WriteDirectories,
}

impl Plan {
    pub fn new(args: &Serve) -> Self {
        let kind = match (args.upload, args.mkdir || args.uploads.upload_per_client) {
            (false, _) => Use::Read,
            (true, false) => Use::Write,
            (true, true) => Use::WriteDirectories,
        };
        let sources = sources::all(args);
        let directories = sources.iter().filter_map(|source| Some((source.directory()?.to_owned(), kind)));
        let (files, urls) = sources::settings();
        Self {
            user: args.sandbox.user.clone(),
            is_off: args.sandbox.no_sandbox,
            landlock: !args.sandbox.no_landlock,
            directories: directories.collect(),
            readable: reread(args)
                .into_iter()
                .chain(files)
                .map(|file| landlock::directory_of(&file).into())
                .chain(roots(&sources))
                .collect(),
            also: args.uploads.also().cloned().collect(),
            logs: args.log_file.iter().cloned().collect(),
            connects: connects(sources.iter().filter_map(Source::url).chain(webhook(args)), &urls),
        }
    }

    /// The paths and ports that another plan needs beyond this one, for the log.
    pub fn lacks(&self, other: &Self) -> Vec<String> {
        if self.is_off || !self.landlock {
            return Vec::new();
        }
        let is_known = |path: &Path, kind| {
            let read = self.also.iter().map(|known| (known, Use::Read));
            let mut known = self.directories.iter().map(|(known, kind)| (known, *kind)).chain(read);
            known.any(|(known, known_kind)| path.starts_with(known) && kind <= known_kind)
        };
        let directories = other.directories.iter().filter(|(path, kind)| !is_known(path, *kind));
        let ports = other.connects.iter().filter(|port| !self.connects.contains(port));
        directories
            .map(|(path, _)| match is_known(path, Use::Read) {
                true => format!("these uploads to {}", path.display()),
                false => path.display().to_string(),
            })
            .chain(ports.map(|port| format!("TCP port {port}")))
            .collect()
    }
}

fn webhook(args: &Serve) -> Option<&str> {
    args.notify.webhook.as_deref()
}

/// The files that a reload reads again. Their directories, because an editor may replace a file.
fn reread(args: &Serve) -> Vec<PathBuf> {
    args.config.config.iter().chain(&args.web.ca).cloned().collect()
}

/// The directories of the system's certificates. They are read again when a reload brings another web server.
fn roots(sources: &[Source]) -> Vec<PathBuf> {
    const ROOTS: [&str; 5] = [
        "/etc/ssl",
        "/etc/pki",
        "/etc/ca-certificates",
        "/usr/share/ca-certificates",
        "/usr/local/share/ca-certificates",
    ];
    if !sources.iter().any(|source| source.url().is_some()) {
        return Vec::new();
    }
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(std::env::var_os);
    named.map(PathBuf::from).chain(ROOTS.map(PathBuf::from)).collect()
}

/// The plan, and the user that the server becomes.
pub struct Entrance {
    plan: Plan,
    choice: user::Choice,
}

impl Entrance {
    /// # Errors
    /// If the user cannot be changed as requested.
    pub fn new(args: &Serve) -> Result<Self> {
        let plan = Plan::new(args);
        let choice = user::choose(&plan)?;
        Ok(Self { plan, choice })
    }

    /// The same for `explain`, which leaves everything outside of the process as it is.
    pub fn for_explain(args: &Serve) -> Result<Self> {
        let mut entrance = Self::new(args)?;
        entrance.plan.logs.clear();
        Ok(entrance)
    }

    /// The future user of the server, for the log's lines about unreadable files.
    pub fn user(&self) -> Option<String> {
        let name = self.choice.identity.name();
        // Without that right, --user would not help.
        Some(if capabilities::may_change_user() { format!("{name} (see --user)") } else { name.into() })
    }

    /// The future user of the server, for a helper that [becomes that user](become_user). `None` if the server keeps
    /// its user and all its rights.
    pub fn ids(&self) -> Option<String> {
        (!self.plan.is_off || self.plan.user.is_some()).then(|| self.choice.identity.ids())
    }

    /// Gives up all privileges that the plan does not name. There is no way back. Returns the new user.
    ///
    /// # Errors
    /// If the user cannot be changed as requested, or could not read the served directories.
    pub fn enter(self) -> Result<Entered> {
        let Self { plan, choice } = self;
        let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
        if threads > 1 && !plan.is_off {
            warn!("{threads} threads run already, and only this one gives up its privileges");
        }
        let identity = choice.identity;
        let name = identity.name().to_owned();
        let mut lines = Vec::new();
        // Without that right, --user would not help.
        let or_user = if capabilities::may_change_user() { ", or see --user" } else { "" };
        if plan.is_off {
            if plan.user.is_some() {
                identity.assume()?;
            }
            lines.push((Level::Info, format!("no sandbox: user {identity} keeps all its rights")));
        } else {
            check_access(&plan, &identity, or_user)?;
            // Open the paths of the rules while that is still allowed.
            let rules = plan.landlock.then(|| landlock::SandboxRules::new(&plan, &identity)).transpose()?;
            for log in &plan.logs {
                identity.own(log);
            }
            let done = restrict(&identity, rules)?;
            let why = choice.why.map(|why| format!(", because {why}")).unwrap_or_default();
            // Root without capabilities still owns most files, so only landlock can protect them.
            let level = if identity.is_root() && !done.confined { Level::Warn } else { Level::Info };
            let landlock = done.landlock;
            lines.push((
                level,
                format!("sandbox: user {identity}{why}; no capabilities, no new privileges, {landlock}"),
            ));
            for (path, kind) in plan.directories.iter().filter(|_| done.confined) {
                if let Some(why) = landlock::is_bound(path, *kind, &identity) {
                    let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                    let path = path.display();
                    lines.push((
                        Level::Info,
                        format!(
                            "if {path} is replaced by another directory, the server ends with code {} and must be \
                             restarted: its landlock rules cover this directory only, because {why}; see --no-landlock",
                            restart::CODE
                        ),
                    ));
                }
            }
        }
        plan.directories.iter().for_each(|(path, _)| readable::check(path, &identity, or_user));
        Ok(Entered { user: Some(name), lines })
    }
}

/// The sandbox that the process is in.
#[derive(Debug)]
pub struct Entered {
    /// The name of the user, if it is known.
    pub user: Option<String>,
    lines: Vec<(Level, String)>,
}

impl Entered {
    /// Logs what the sandbox is. A server that refuses to start says only why.
    pub fn tell(&self) {
        self.lines.iter().for_each(|(level, line)| log::log!(*level, "{line}"));
    }
}

/// Becomes the user with these [ids](Entrance::ids), without capabilities and new privileges. Without ids nothing
/// changes. Returns the variables of the environment that belong to the user, if it is another one than before.
pub fn become_user(ids: &str) -> Result<Vec<(&'static str, OsString)>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let (before, identity) = (Identity::current()?, Identity::of_ids(ids)?);
    restrict(&identity, None)?;
    Ok(if identity == before { Vec::new() } else { identity.variables().into() })
}

/// A function that reports, now and then, what the sandbox has put out of reach since the start.
pub fn watch(args: &Serve) -> impl Fn() + Send + use<> {
    let plan = Plan::new(args);
    let resolves = plan.landlock && !plan.is_off && !plan.connects.is_empty();
    let look = resolves.then(landlock::watch_resolver);
    move || look.iter().for_each(|look| look())
}

/// The user for a server without files, if this process is root and may become another.
pub fn nobody() -> Option<String> {
    let may_change = Identity::current().is_ok_and(|current| current.is_root()) && capabilities::may_change_user();
    Some(Identity::nobody()).filter(|nobody| may_change && nobody.is_mapped()).map(|nobody| nobody.to_user())
}

/// Restricts this thread, and the threads that it starts.
fn restrict(identity: &Identity, rules: Option<landlock::SandboxRules>) -> Result<landlock::Done> {
    capabilities::drop_bounding();
    identity.assume()?;
    capabilities::drop_all()?;
    identity.verify()?;
    rustix::thread::set_no_new_privs(true)?;
    rules.map_or_else(|| Ok(landlock::Done::none("no landlock (--no-landlock)")), landlock::SandboxRules::enforce)
}

/// Reports at the start what would be an ERROR for each client.
fn check_access(plan: &Plan, identity: &Identity, or_user: &str) -> Result<()> {
    for (path, kind) in &plan.directories {
        let Ok(directory) = fs::metadata(path) else { continue };
        let (path, name) = (path.display(), identity);
        // A user that does not change has opened it already: an access list may allow more than the mode.
        if !identity.may(&directory, user::SEARCH) && *identity != Identity::current()? {
            return Err(format!(
                "cannot serve {path} as user {name}: make it readable with `chmod o+rx {path}`, or choose another \
                 user: --user root"
            )
            .into());
        }
        if *kind != Use::Read && !identity.may(&directory, user::WRITE | user::SEARCH) {
            warn!(
                "uploads of new files into {path} will be refused: user {name} may not write there; change its \
                 owner{or_user}"
            );
        }
    }
    Ok(())
}

/// The ports of these servers, of servers in the settings, of possible redirects, and of the proxies in the
/// environment.
fn connects<'a>(urls: impl Iterator<Item = &'a str>, of_settings: &[String]) -> Vec<u16> {
    let mut ports: Vec<u16> = urls.filter_map(port).collect();
    if ports.is_empty() {
        return ports;
    }
    ports.extend(of_settings.iter().filter_map(|url| port(url)));
    ports.extend(upstreams::proxies().filter_map(|(_, url)| port(&url)));
    // A resolver is asked over TCP if its answer is long.
    ports.extend([80, 443, 53]);
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The port of a URL.
fn port(url: &str) -> Option<u16> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') && (!name.contains(':') || name.ends_with(']')) => port.parse().ok(),
        _ if scheme.eq_ignore_ascii_case("https") => Some(443),
        _ if scheme.to_ascii_lowercase().starts_with("socks") => Some(1080),
        _ => Some(80),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_urls() {
        for (url, expected) in [
            ("http://host/", 80),
            ("https://host", 443),
            ("HTTPS://host:8443/x:1/", 8443),
            ("http://user:1234@host/", 80),
            ("http://user:pass@host:81/", 81),
            ("http://[::1]/", 80),
            ("http://[::1]:8080/", 8080),
            ("proxy:3128", 3128),
            ("socks5://proxy", 1080),
        ] {
            assert_eq!(port(url), Some(expected), "{url}");
        }
        assert_eq!(connects([].into_iter(), &[]), [0; 0]);
        let ports = connects(["http://host:8080/"].into_iter(), &["https://store:9000".into()]);
        assert!([53, 80, 443, 8080, 9000].iter().all(|port| ports.contains(port)), "{ports:?}");
    }
}
