//! The user that the server becomes.
//!
//! Started as root, it becomes the owner of the first directory, with the primary group of that user and no other. So
//! it can read the files there, and uploads belong to that owner. If the owner is root, it becomes `nobody`. If
//! `nobody` could not read the directory, or not write where uploads go, it stays root, without any capability.

use std::{
    ffi::{CString, OsString},
    fmt,
    fs::{self, File, Metadata},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::Path,
};

use nix::unistd::{self, Gid, Group, Uid, User};
use rustix::fs::OFlags;

use super::{Plan, Result, Use, capabilities};

/// The rights on a directory, as in its mode.
pub const SEARCH: u32 = 1;
pub const WRITE: u32 = 2;
pub const READ: u32 = 4;

/// The number of `nobody` on every Linux, listed or not. A look-up would cost memory for good.
const NOBODY: u32 = 65534;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

#[derive(Debug)]
pub struct Choice {
    pub identity: Identity,
    /// Why it is not a less privileged user, for the log.
    pub why: Option<String>,
}

/// Chooses the user for the rest of the process.
pub fn choose(plan: &Plan) -> Result<Choice> {
    let current = Identity::current()?;
    let choice = |identity| Ok(Choice { identity, why: None });
    let no_better = |identity, why: &str| Ok(Choice { identity, why: Some(why.into()) });
    if let Some(wish) = &plan.user {
        let explain = |error| format!("--user {wish}: {error}");
        let wanted = Identity::named(wish).map_err(explain)?;
        return match () {
            () if (wanted.uid, wanted.gid) == (current.uid, current.gid) => choice(current),
            () if capabilities::may_change_user() => choice(wanted),
            () => {
                Err(explain("only root can change its user; start the server as root, or leave --user out".into())
                    .into())
            }
        };
    }
    if plan.is_off || !current.uid.is_root() {
        return choice(current);
    }
    let directories: Vec<_> =
        plan.directories.iter().filter_map(|(path, kind)| Some((path, *kind, fs::metadata(path).ok()?))).collect();
    let better = match directories.first() {
        Some((.., first)) if first.uid() != 0 => Identity::owner(first),
        _ => Identity::nobody(),
    };
    if !capabilities::may_change_user() {
        return no_better(current, "it may not become another user");
    }
    if !better.is_mapped() {
        return no_better(current, "this container has no other users");
    }
    for (path, kind, directory) in &directories {
        let needed = if *kind == Use::Read { READ | SEARCH } else { READ | WRITE | SEARCH };
        if !better.may(directory, needed) && current.may(directory, needed) {
            let what = if *kind == Use::Read { "read" } else { "write" };
            return no_better(current, &format!("{} may not {what} {}: see --user", better.name, path.display()));
        }
    }
    choice(better)
}

impl Identity {
    pub fn current() -> Result<Self> {
        let (uid, gid) = (unistd::geteuid(), unistd::getegid());
        let name = if uid.is_root() { "root".into() } else { uid.to_string() };
        Ok(Self { name, uid, gid, groups: unistd::getgroups()? })
    }

    /// A user from `USER[:GROUP]`, by names or numbers.
    pub fn named(wish: &str) -> std::result::Result<Self, String> {
        let (user, group) = wish.split_once(':').map_or((wish, None), |(user, group)| (user, Some(group)));
        let found = match user.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number)),
            Err(_) => User::from_name(user),
        };
        let mut identity = match found {
            Ok(Some(found)) if group.is_some() => Self::of(found),
            Ok(Some(found)) => Self::with_groups(found).map_err(|error| error.to_string())?,
            _ => match user.parse() {
                Ok(number) => Self::unlisted(number, Gid::from_raw(number)),
                Err(_) => return Err("there is no such user; `getent passwd` lists them".into()),
            },
        };
        if let Some(group) = group {
            let found = group.parse().ok().map(Gid::from_raw);
            let found = found.or_else(|| Group::from_name(group).ok().flatten().map(|group| group.gid));
            identity.gid = found.ok_or("there is no such group; `getent group` lists them")?;
            identity.groups = vec![identity.gid];
        }
        Ok(identity)
    }

    fn owner(directory: &Metadata) -> Self {
        match User::from_uid(Uid::from_raw(directory.uid())) {
            Ok(Some(user)) => Self::of(user),
            _ => Self::unlisted(directory.uid(), Gid::from_raw(directory.gid())),
        }
    }

    pub fn nobody() -> Self {
        Self { name: "nobody".into(), ..Self::unlisted(NOBODY, Gid::from_raw(NOBODY)) }
    }

    /// A user without further groups: the server needs no groups of a person who happens to own a directory.
    fn of(user: User) -> Self {
        Self { name: user.name, uid: user.uid, gid: user.gid, groups: vec![user.gid] }
    }

    /// A named user, with all groups as after a login.
    fn with_groups(user: User) -> Result<Self> {
        let groups = unistd::getgrouplist(&CString::new(user.name.as_str())?, user.gid)?;
        Ok(Self { groups, ..Self::of(user) })
    }

    fn unlisted(uid: u32, gid: Gid) -> Self {
        Self { name: uid.to_string(), uid: Uid::from_raw(uid), gid, groups: vec![gid] }
    }

    /// The numbers of the user, the group, and all groups.
    pub fn ids(&self) -> String {
        let groups = self.groups.iter().map(|group| format!(":{group}"));
        format!("{}:{}{}", self.uid, self.gid, groups.collect::<String>())
    }

    pub fn of_ids(ids: &str) -> Result<Self> {
        let numbers = ids.split(':').map(str::parse).collect::<std::result::Result<Vec<u32>, _>>()?;
        let [uid, gid, groups @ ..] = &numbers[..] else { return Err(format!("{ids} is not a user").into()) };
        let groups = groups.iter().copied().map(Gid::from_raw).collect();
        let same = |current: Self| (current.uid.as_raw(), current.gid.as_raw()) == (*uid, *gid);
        // If nothing changes, no privilege is needed.
        match Self::current() {
            Ok(current) if same(current.clone()) => Ok(current),
            _ => Ok(Self { groups, ..Self::unlisted(*uid, Gid::from_raw(*gid)) }),
        }
    }

    /// `USER:GROUP` by numbers, for [`named`](Self::named).
    pub fn to_user(&self) -> String {
        format!("{}:{}", self.uid, self.gid)
    }

    /// The variables that a login sets.
    pub fn variables(&self) -> [(&'static str, OsString); 3] {
        let (name, home) = match User::from_uid(self.uid) {
            Ok(Some(user)) => (user.name, user.dir),
            _ => (self.uid.to_string(), "/".into()),
        };
        [("HOME", home.into()), ("USER", name.clone().into()), ("LOGNAME", name.into())]
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn owns(&self, file: &Metadata) -> bool {
        file.uid() == self.uid.as_raw()
    }

    pub fn is_root(&self) -> bool {
        self.uid.is_root()
    }

    /// Whether the mode of a directory allows this, without capabilities. Access lists are not read.
    pub fn may(&self, directory: &Metadata, wanted: u32) -> bool {
        let group = Gid::from_raw(directory.gid());
        let shift = match () {
            () if directory.uid() == self.uid.as_raw() => 6,
            () if self.gid == group || self.groups.contains(&group) => 3,
            () => 0,
        };
        directory.mode() >> shift & wanted == wanted
    }

    /// Whether the user namespace of this process has this user.
    pub fn is_mapped(&self) -> bool {
        let has = |file: &str, id: u32| {
            let Ok(map) = fs::read_to_string(file) else { return true };
            map.lines().any(|line| {
                let mut numbers = line.split_whitespace().map(|number| number.parse().unwrap_or(0u64));
                let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
                first.zip(count).is_some_and(|(first, count)| (first..first + count).contains(&id.into()))
            })
        };
        let may_set_groups = fs::read_to_string("/proc/self/setgroups").map_or(true, |text| text.trim() != "deny");
        may_set_groups && has("/proc/self/uid_map", self.uid.as_raw()) && has("/proc/self/gid_map", self.gid.as_raw())
    }

    /// Gives this user a file that belongs to root, so that it can be opened again. A file with several names is left
    /// alone, because it may be something else.
    pub fn own(&self, path: &Path) {
        let own = || {
            // A FIFO may have no reader.
            let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let file = File::options().append(true).custom_flags(flags.bits() as i32).open(path)?;
            let found = file.metadata()?;
            if found.is_file() && found.nlink() == 1 && found.uid() == 0 && !self.is_root() {
                fchown(&file, Some(self.uid.as_raw()), Some(self.gid.as_raw()))?;
            }
            Ok::<_, std::io::Error>(())
        };
        if let Err(error) = own() {
            log::debug!("cannot give {} to user {self}: {error}", path.display());
        }
    }

    /// Changes to this user, without a way back.
    pub fn assume(&self) -> Result<()> {
        if *self == Self::current()? {
            return Ok(());
        }
        let set = || {
            // The groups come first, while that is allowed, and the user last.
            unistd::setgroups(&self.groups)?;
            unistd::setresgid(self.gid, self.gid, self.gid)?;
            unistd::setresuid(self.uid, self.uid, self.uid)
        };
        set().map_err(|error| format!("cannot become user {self}: {error}; see --user and --no-sandbox").into())
    }

    /// Proves that there is no way back.
    pub fn verify(&self) -> Result<()> {
        let (user, group) = (unistd::getresuid()?, unistd::getresgid()?);
        let is_this = [user.real, user.effective, user.saved] == [self.uid; 3]
            && [group.real, group.effective, group.saved] == [self.gid; 3];
        let is_root = self.uid.is_root();
        if is_this && (is_root || unistd::setuid(Uid::from_raw(0)).is_err()) {
            Ok(())
        } else {
            Err(format!("user {self} could become root again, so the server does not start").into())
        }
    }
}

/// `nobody (65534:65534)`
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, uid, gid, .. } = self;
        if *name == uid.to_string() { write!(f, "{uid}:{gid}") } else { write!(f, "{name} ({uid}:{gid})") }
    }
}
