//! The conditions and the effects of a rule.

use std::sync::Arc;

use regex_lite::RegexBuilder;

use super::{
    super::{
        client::Clients,
        machine::Uuid,
        target::Target,
        template::{self, Variable},
    },
    Rule, with_bytes,
};
use crate::{
    Error, Handler, Refusal,
    options::{Direction, OptionName},
    packet::Mode,
};

impl Rule {
    /// Matches only these clients. Call it again for more clients. Defaults to all.
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let rule = Rule::new("lab").client("10.9.0.0/16".parse()?).target("lab/${path}")?;
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// assert_eq!(verdict.candidates()[0].request().path(), "menu", "10.0.0.7 is not in the lab");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn client(mut self, clients: Clients) -> Self {
        self.clients.push(clients);
        self
    }

    /// Matches only machines of this [architecture](crate::rules::ARCHES), in either case. Call it again for more of
    /// them. Defaults to all.
    ///
    /// The architecture, the UUID and the serial number come from the [table of machines](crate::rules::Machines), or
    /// else from [the requested name](crate::rules::Machine::in_name). A machine without the fact does not match. None
    /// of the three is proven: a client may send any packet and any name.
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let rules = Rules::new(vec![Rule::new("EFI").arch("x64").target("efi/${path}")?])?;
    /// let verdict = rules.decide(&request, Direction::Read, &Machine::in_name("shimx64.efi"))?;
    /// assert_eq!(verdict.candidates()[0].request().path(), "efi/menu");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn arch(mut self, arch: impl Into<String>) -> Self {
        self.arches.push(arch.into());
        self
    }

    /// Matches only the machine with this UUID, with either byte order of its first three groups. Call it again for
    /// more machines. Defaults to all. See also [`arch`](Self::arch).
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let uuid = "01234567-89ab-cdef-0123-456789abcdef".parse()?;
    /// let mut machine = Machine::default();
    /// machine.uuid = Some(uuid);
    /// let rules = Rules::new(vec![Rule::new("node 7").uuid(uuid).target("seven/${path}")?])?;
    /// let verdict = rules.decide(&request, Direction::Read, &machine)?;
    /// assert_eq!(verdict.candidates()[0].request().path(), "seven/menu");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn uuid(mut self, uuid: Uuid) -> Self {
        self.uuids.push(uuid);
        self
    }

    /// Matches only the machine with this serial number, in either case. Call it again for more machines. Defaults to
    /// all. See also [`arch`](Self::arch).
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let rules = Rules::new(vec![Rule::new("kitchen").serial("1a2b3c4d").target("kitchen/${path}")?])?;
    /// let verdict = rules.decide(&request, Direction::Read, &Machine::in_name("1a2b3c4d/start.elf"))?;
    /// assert_eq!(verdict.candidates()[0].request().path(), "kitchen/menu");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn serial(mut self, serial: impl Into<String>) -> Self {
        self.serials.push(serial.into());
        self
    }

    /// Matches only names in which this regular expression finds a match, with the syntax of
    /// [regex-lite](https://docs.rs/regex-lite), where `.` matches any character. The name is the
    /// [normalised](crate::Request::path) one, or the target of an earlier rule that [goes on](Self::go_on). Bytes that
    /// are not UTF-8 are matched by `\x80` to `\xff`, as the log shows them, but not in brackets. Defaults to all.
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let rule = Rule::new("menus").name("^(menu)$")?.target("menus/$1")?;
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// assert_eq!(verdict.candidates()[0].request().path(), "menus/menu");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if it is not a regular expression.
    pub fn name(mut self, regex: &str) -> Result<Self, Error> {
        // A name may have any character but NUL.
        let regex = RegexBuilder::new(&with_bytes(regex))
            .dot_matches_new_line(true)
            .build()
            .map_err(|error| Error::Config(format!("{regex:?} is not a regular expression: {error}")))?;
        self.name = Some(regex);
        Ok(self)
    }

    /// Matches only this transfer mode. Defaults to both.
    ///
    /// ```
    /// use tuffet::{options::Direction, packet::Mode, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let rule = Rule::new("text").mode(Mode::Netascii).target("text/${path}")?;
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// assert_eq!(verdict.candidates()[0].request().path(), "menu", "it asks for octet");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Matches only reads, or only writes. Defaults to both.
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let rule = Rule::new("backups").direction(Direction::Write).target("backups/${path}")?;
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// assert_eq!(verdict.candidates()[0].request().path(), "menu", "it is a read");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = Some(direction);
        self
    }

    /// Defines a variable for the targets that are given after this call: `${name}` is the value, also in the host of a
    /// URL. Template files have it too. Defaults to none.
    ///
    /// ```
    /// use tuffet::rules::Rule;
    ///
    /// let rule = Rule::new("site").set("site", "lab")?.target("${site}/${path}")?;
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if the name has other characters than letters, digits and `_`, or is one of the variables of
    /// [`target`](Self::target).
    pub fn set(mut self, name: &str, value: &str) -> Result<Self, Error> {
        let no = |why| Err(Error::Config(format!("{name:?} cannot be set: {why}")));
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || !name.chars().all(is_word) {
            return no("a name has letters, digits and `_`");
        }
        if Variable::named(name).is_some() {
            return no("it is a variable of every request");
        }
        self.set.retain(|(known, _)| known != name);
        self.set.push((name.into(), value.into()));
        Ok(self)
    }

    /// The text with the [set](Self::set) values filled in, as [`target`](Self::target) and [`url`](Self::url) take it.
    ///
    /// ```
    /// let rule = tuffet::rules::Rule::new("site").set("site", "lab")?;
    /// assert_eq!(rule.fill("http://${site}.example/"), "http://lab.example/");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    #[must_use]
    pub fn fill(&self, text: &str) -> String {
        template::fill(text, &self.set)
    }

    /// Serves this file. The name may have `$1` or `${group}` for groups of the regular expression, `$0` for its whole
    /// match, `$$` for a `$`, and variables:
    ///
    /// | variable | |
    /// |---|---|
    /// | `${path}` | the whole name |
    /// | `${client}`, `${server}` | addresses |
    /// | `${mac}` | MAC address of the client, `52-54-00-12-34-56` |
    /// | `${uuid}`, `${serial}`, `${arch}` | UUID, serial number and architecture of the machine |
    ///
    /// The facts of the last two lines come from the [table of machines](crate::rules::Machines), or else from [the
    /// requested name](crate::rules::Machine::in_name). A `:` and a word after a variable or a group change its
    /// spelling. Several words apply one after another:
    ///
    /// | spelling | `${mac}` | `${client}` |
    /// |---|---|---|
    /// | `:hexhyp` | `52-54-00-ab-cd-ef` | `c0-a8-02-5b` |
    /// | `:hex` | `52:54:00:ab:cd:ef` | `c0:a8:02:5b` |
    /// | `:hexraw` | `525400abcdef` | `c0a8025b` |
    /// | `:hexraw:upper` | `525400ABCDEF` | `C0A8025B`, as PXELINUX asks |
    /// | `:upper`, `:lower` | `52-54-00-AB-CD-EF` | |
    ///
    /// `${uuid:guid}` has the bytes of each of its first three groups reversed.
    ///
    /// Call it again for further targets: the first file that exists is served. A target with an unknown variable is
    /// skipped. An upload goes to the first target whose source takes writes.
    ///
    /// With the feature `templates`, a target that ends with `.j2` in the rule's own text is a template file. It is
    /// rendered for each request; see [the module](crate::rules#template-files).
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let rule = Rule::new("menus").target("${client:hexraw:upper}/${path}")?;
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// assert_eq!(verdict.candidates()[0].request().path(), "0A000007/menu");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if the name is invalid, or has `..` in it.
    pub fn target(mut self, name: &str) -> Result<Self, Error> {
        let name = self.fill(name);
        self.effects.targets.push(Target::name(&name)?);
        Ok(self)
    }

    /// As [`target`](Self::target), for a file of a web server. The path and the query may have groups and variables.
    /// `open` makes a handler for the directory before the first of them, such as
    /// [`Http::new`](crate::handlers::Http::new).
    ///
    /// A client can change only the path below that directory and the values of the query.
    ///
    /// ```
    /// use tuffet::{Error, Refusal, read, rules::Rule};
    ///
    /// # let open = |base: &str| Ok::<_, Error>(read(async |_| Err::<&str, _>(Refusal::not_found())));
    /// // let open = Http::new;
    /// let rule = Rule::new("menus").name("^grub.cfg-(.*)")?.url("http://10.0.0.1/menu?mac=$1", open)?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if the URL is invalid, and the errors of `open`.
    pub fn url<H: Handler>(mut self, url: &str, open: impl FnOnce(&str) -> Result<H, Error>) -> Result<Self, Error> {
        let url = self.fill(url);
        self.effects.targets.push(Target::url(&url, open)?);
        Ok(self)
    }

    /// Serves the files of this handler instead of those of the server.
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let rule = Rule::new("made up").source(tuffet::read(|_| "hello\n"));
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// assert!(verdict.candidates()[0].source().is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn source(mut self, source: impl Handler) -> Self {
        self.effects.source = Some(Arc::new(source));
        self
    }

    /// Whether a name that differs only in upper and lower case finds a file, see
    /// [`Request::ignores_case`](crate::Request::ignores_case). It has no effect on URLs.
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let rule = Rule::new("Windows").ignore_case(true);
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// assert!(verdict.candidates()[0].request().ignores_case());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ignore_case(mut self, ignore_case: bool) -> Self {
        self.effects.ignore_case = Some(ignore_case);
        self
    }

    /// Grants only these options. An empty list grants none, as some firmware needs.
    ///
    /// ```
    /// use tuffet::{options::{Direction, Limits, OptionName}, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let rule = Rule::new("old firmware").options([OptionName::Tsize]);
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// let mut limits = Limits::default();
    /// verdict.limit(&mut limits);
    /// assert_eq!(limits.only.as_deref(), Some(&[OptionName::Tsize][..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn options(mut self, only: impl IntoIterator<Item = OptionName>) -> Self {
        self.effects.only = Some(only.into_iter().collect());
        self
    }

    /// The largest blksize that is granted, in bytes, 8 to 65464. It cannot exceed the server's limit.
    ///
    /// ```
    /// use tuffet::{options::{Direction, Limits}, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let rule = Rule::new("tunnel").blksize(1228);
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// let mut limits = Limits::default();
    /// verdict.limit(&mut limits);
    /// assert_eq!(limits.blksize, 1228);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn blksize(mut self, most: u16) -> Self {
        self.effects.blksize = Some(most);
        self
    }

    /// The largest windowsize that is granted, in blocks, 1 or more. It cannot exceed the server's limit.
    ///
    /// ```
    /// use tuffet::{options::{Direction, Limits}, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let rule = Rule::new("small buffers").windowsize(4);
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// let mut limits = Limits::default();
    /// verdict.limit(&mut limits);
    /// assert_eq!(limits.windowsize, 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn windowsize(mut self, most: u16) -> Self {
        self.effects.windowsize = Some(most);
        self
    }

    /// Whether uploads are allowed, if the source takes any.
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let rule = Rule::new("read only").upload(false);
    /// let verdict = Rules::new(vec![rule])?.decide(&request, Direction::Read, &Machine::default())?;
    /// assert_eq!(verdict.upload(), Some(false));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn upload(mut self, upload: bool) -> Self {
        self.effects.upload = Some(upload);
        self
    }

    /// Refuses the request; with [`Refusal::silent`] the server sends no answer.
    ///
    /// ```
    /// use tuffet::{Refusal, options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let rules = Rules::new(vec![Rule::new("secret").name("^menu")?.refuse(Refusal::not_found())])?;
    /// assert!(rules.decide(&request, Direction::Read, &Machine::default()).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn refuse(mut self, refusal: Refusal) -> Self {
        self.effects.refuse = Some(refusal);
        self
    }

    /// Also tries the rules after this one, on the name that this one has made. Defaults to no.
    ///
    /// ```
    /// use tuffet::{options::Direction, rules::{Machine, Rule, Rules}};
    ///
    #[doc = include_str!("../example.md")]
    /// let lower = Rule::new("moved").name("^menu$")?.target("menus/menu")?.go_on(true);
    /// let lab = Rule::new("lab").target("lab/${path}")?;
    /// let verdict = Rules::new(vec![lower, lab])?.decide(&request, Direction::Read, &Machine::default())?;
    /// assert_eq!(verdict.candidates()[0].request().path(), "lab/menus/menu");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn go_on(mut self, goes_on: bool) -> Self {
        self.goes_on = goes_on;
        self
    }
}
