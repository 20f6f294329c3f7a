//! Landlock: the kernel allows the server its own files and ports only, whatever a defect in it might do.

use std::{
    cell::RefCell,
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::{
    Plan, Result, Use,
    user::{self, Identity},
};

/// The newest known version. An older kernel does what it can.
const KNOWN: ABI = ABI::V6;

/// The files that the C library reads when it resolves a name. Some are links to the file of a service.
const RESOLVER: [&str; 10] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ld.so.cache",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
];
/// The directories of glibc's modules that `nsswitch.conf` names.
const MODULES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];
/// The directories with the MTU of each interface.
const INTERFACES: [&str; 2] = ["/sys/class/net", "/sys/devices/virtual/net"];

/// Rules that are not in force yet.
pub struct SandboxRules(RulesetCreated);

/// The result of the confinement.
pub struct Done {
    /// A text for the log.
    pub landlock: &'static str,
    /// Whether at least other files are out of reach.
    pub confined: bool,
}

impl SandboxRules {
    pub fn new(plan: &Plan, identity: &Identity) -> Result<Self> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let mut rules = ruleset()?;
        for (path, kind) in &plan.directories {
            let there = PathFd::new(path).map_err(|error| format!("cannot serve {}: {error}", path.display()))?;
            rules = rules.add_rule(PathBeneath::new(there, read | writes(*kind)))?;
            for (around, access) in around(path, *kind, identity) {
                rules = rules.add_rules(path_beneath_rules([around], access))?;
            }
        }
        for path in &plan.also {
            let also = around(path, Use::Read, identity).into_iter().chain([(path.clone(), read)]);
            for (path, access) in also {
                rules = rules.add_rules(path_beneath_rules([path], access))?;
            }
        }
        let append = AccessFs::WriteFile | AccessFs::MakeReg;
        rules = rules
            .add_rules(path_beneath_rules(&plan.readable, read))?
            .add_rules(path_beneath_rules(plan.logs.iter().map(|log| directory_of(log)), append))?
            .add_rules(path_beneath_rules(INTERFACES, read))?
            .add_rules(path_beneath_rules(interfaces(), read))?;
        if !plan.connects.is_empty() {
            rules = rules.add_rules(path_beneath_rules(RESOLVER, read))?;
            if cfg!(target_env = "gnu") {
                rules = rules.add_rules(path_beneath_rules(MODULES, read))?;
            }
        }
        for &port in &plan.connects {
            rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
        }
        Ok(Self(rules))
    }

    /// Puts the rules in force.
    pub fn enforce(self) -> Result<Done> {
        let status = self.0.restrict_self()?;
        Ok(match (status.ruleset, status.landlock) {
            (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
                Done::none("no landlock (not enabled in this kernel)")
            }
            (RulesetStatus::NotEnforced, _) => Done::none("no landlock (this kernel has none)"),
            (_, LandlockStatus::Available { effective_abi: abi, .. }) if abi < ABI::V4 => {
                Done::some("landlock for files (this kernel has none for TCP and signals)")
            }
            (_, LandlockStatus::Available { effective_abi: abi, .. }) if abi < ABI::V6 => {
                Done::some("landlock for files and TCP (this kernel has none for signals)")
            }
            _ => Done::some("landlock for files, TCP and signals"),
        })
    }
}

impl Done {
    pub fn none(landlock: &'static str) -> Self {
        Self { landlock, confined: false }
    }

    fn some(landlock: &'static str) -> Self {
        Self { landlock, confined: true }
    }
}

fn ruleset() -> std::result::Result<RulesetCreated, RulesetError> {
    let mut scopes: BitFlags<Scope> = Scope::Signal.into();
    // Some service managers have such a socket for readiness messages.
    if std::env::var_os("NOTIFY_SOCKET").is_none_or(|name| !name.as_encoded_bytes().starts_with(b"@")) {
        scopes |= Scope::AbstractUnixSocket;
    }
    Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(scopes)?
        .create()
}

fn writes(kind: Use) -> BitFlags<AccessFs> {
    let files = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
    match kind {
        Use::Read => BitFlags::empty(),
        Use::Write => files,
        Use::WriteDirectories => files | AccessFs::MakeDir,
    }
}

/// Rules for the parent of a directory. A rule holds for the present directory and all below it, but the directory may
/// be made anew, be mounted over, or be a link that changes. The parent also covers its replacement.
fn around(path: &Path, kind: Use, identity: &Identity) -> Vec<(PathBuf, BitFlags<AccessFs>)> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let paths = [std::path::absolute(path), path.canonicalize()];
    let parents = paths.into_iter().flatten().filter_map(|path| Some(path.parent()?.to_owned()));
    let rule = |parent: PathBuf| match closed(&parent, kind, identity)? {
        Closed::All(_) => None,
        Closed::Writes(_) => Some((parent, read)),
        Closed::Nothing => Some((parent, read | writes(kind))),
    };
    parents.filter_map(rule).collect()
}

/// Why the parent of a directory stays closed, for the log.
enum Closed {
    Nothing,
    Writes(&'static str),
    All(&'static str),
}

/// If the parent belongs to this user, such as a home, or if the user is root, the user could read too much else in it.
/// If the user may create files in it, the user could write too much.
fn closed(parent: &Path, kind: Use, identity: &Identity) -> Option<Closed> {
    let found = parent.metadata().ok()?;
    Some(match () {
        () if parent == Path::new("/") => Closed::All("it is directly below /"),
        () if identity.is_root() => Closed::All("the server runs as root"),
        () if identity.owns(&found) => Closed::All("its parent directory belongs to this user"),
        () if kind != Use::Read && identity.may(&found, user::WRITE) => {
            Closed::Writes("this user may write to its parent directory")
        }
        () => Closed::Nothing,
    })
}

/// Why this process cannot serve a directory that replaces this one by its name, if so.
pub fn is_bound(path: &Path, kind: Use, identity: &Identity) -> Option<&'static str> {
    match closed(std::path::absolute(path).ok()?.parent()?, kind, identity)? {
        Closed::All(why) | Closed::Writes(why) => Some(why),
        Closed::Nothing => None,
    }
}

/// A function that reports replaced files for name resolution. The rules hold for the files of the start, and DHCP
/// clients and editors rename new ones over them.
pub fn watch_resolver() -> impl Fn() + Send {
    let identity = |path: &str| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let readable = RESOLVER.into_iter().filter(|path| File::open(path).is_ok());
    let known: RefCell<Vec<_>> = RefCell::new(readable.map(|path| (path, identity(path))).collect());
    move || {
        known.borrow_mut().retain(|(path, before)| {
            let is_denied = || File::open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
            let is_lost = identity(path) != *before && is_denied();
            if is_lost {
                log::error!(
                    "{path} was replaced, and the sandbox does not allow the new one: the server may no longer find \
                     web servers by name; restart it, or see --no-landlock"
                );
            }
            !is_lost
        });
    }
}

/// The directory in which a file may be made anew.
pub fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// The targets of the links in the directory of the interfaces.
fn interfaces() -> Vec<std::path::PathBuf> {
    let entries = Path::new(INTERFACES[0]).read_dir().into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.path().canonicalize().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::ErrorKind::PermissionDenied,
        net::{TcpListener, TcpStream},
        os::unix::fs::symlink,
        thread,
    };

    use super::*;

    fn is_denied<T>(result: std::io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == PermissionDenied)
    }

    /// Runs in a thread of its own, because the rules bind only that thread.
    #[test]
    fn files_outside_of_the_plan_cannot_be_opened() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        for directory in ["read", "write", "log", "other"] {
            fs::create_dir(path(directory)).unwrap();
            fs::write(path(directory).join("file"), "text").unwrap();
        }
        symlink(path("other/file"), path("read/link")).unwrap();
        let (allowed, refused) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let plan = Plan {
            directories: vec![(path("read"), Use::Read), (path("write"), Use::Write)],
            readable: vec![path("other/config")],
            logs: vec![path("log/file")],
            connects: vec![allowed.local_addr().unwrap().port()],
            ..Plan::default()
        };
        let restricted = thread::spawn(move || {
            let temp = temp;
            let path = |name: &str| temp.path().join(name);
            let done = SandboxRules::new(&plan, &Identity::current().unwrap()).unwrap().enforce().unwrap();
            if !done.confined {
                return println!("skipped: {}", done.landlock);
            }
            fs::read(path("read/file")).unwrap();
            fs::read_dir(path("read")).unwrap();
            fs::write(path("write/new"), "text").unwrap();
            fs::rename(path("write/new"), path("write/file")).unwrap();
            File::options().append(true).open(path("log/file")).unwrap();
            File::options().append(true).create(true).open(path("log/new")).unwrap();
            fs::read("/etc/hosts").unwrap();
            fs::read_dir("/sys/class/net").unwrap();

            for file in ["/etc/passwd", "/proc/self/environ", "/dev/zero"] {
                assert!(is_denied(File::open(file)), "{file}");
            }
            for file in ["other/file", "read/link", "log/file"] {
                assert!(is_denied(File::open(path(file))), "{file}");
            }
            assert!(is_denied(fs::read_dir("/")) && is_denied(fs::read_dir(temp.path())));
            for file in ["read/file", "read/new", "other/file", "other/new"] {
                assert!(is_denied(fs::write(path(file), "text")), "{file}");
            }
            assert!(is_denied(fs::remove_file(path("read/file"))) && is_denied(fs::create_dir(path("write/sub"))));
            assert!(is_denied(symlink("/etc", path("write/link"))));
            assert!(is_denied(std::process::Command::new("/bin/true").status()));
            // Later transfers use new random ports.
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            if done.landlock.ends_with("signals") {
                TcpStream::connect(allowed.local_addr().unwrap()).unwrap();
                assert!(is_denied(TcpStream::connect(refused.local_addr().unwrap())));
                assert!(is_denied(TcpListener::bind("127.0.0.1:0")));
            }
        });
        restricted.join().unwrap();
    }
}
