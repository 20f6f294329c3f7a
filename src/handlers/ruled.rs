use std::{fmt, ops::ControlFlow};

#[cfg(target_os = "linux")]
use crate::rules::Neighbours;
use crate::{
    error::Refusal,
    handler::{Answer, Handler, Request},
    handlers::Search,
    options::Direction,
    rules::{Machine, Machines, Rules, Verdict},
    source::Source,
};

/// A handler behind [`Rules`], which rewrite the names of the requests and limit their options.
///
/// Rules may use more facts about a client than its address. On Linux its MAC address is looked up in the neighbour
/// table of the kernel, which lists the machines on the same link. The table is read again after a second, and earlier
/// for a client that is not in it. It is not read if no rule needs it. The other facts come from
/// [`machines`](Self::machines).
///
/// ```
/// use tuffet::{handlers::{Memory, Ruled}, rules::{Rule, Rules}};
///
/// let rules = Rules::new(vec![Rule::new("old menus").name("^menu$")?.target("menus/${client}")?])?;
/// let handler = Ruled::new(rules, Memory::new());
/// # let _: &dyn tuffet::Handler = &handler;
/// # Ok::<(), tuffet::Error>(())
/// ```
pub struct Ruled {
    rules: Rules,
    handler: Box<dyn Handler>,
    machines: Machines,
    #[cfg(target_os = "linux")]
    neighbours: Neighbours,
}

impl Ruled {
    /// These rules in front of this handler.
    ///
    /// ```
    /// use tuffet::{Handler, handlers::{Memory, Ruled}, rules::Rules};
    ///
    /// assert!(Ruled::new(Rules::default(), Memory::new()).takes_writes());
    /// ```
    pub fn new(rules: Rules, handler: impl Handler) -> Self {
        Self {
            rules,
            handler: Box::new(handler),
            machines: Machines::default(),
            #[cfg(target_os = "linux")]
            neighbours: Neighbours::default(),
        }
    }

    /// Further facts about machines, such as those from a ProxyDHCP server. Defaults to none.
    ///
    /// ```
    /// use tuffet::{Request, handlers::{Memory, Ruled}, packet, rules::{Machine, Machines, Rule, Rules}};
    ///
    /// let machines = Machines::default();
    /// machines.learn(Some("192.0.2.7".parse()?), Machine::in_name("shimx64.efi"));
    /// let rules = Rules::new(vec![Rule::new("by architecture").target("${arch}/${path}")?])?;
    /// let handler = Ruled::new(rules, Memory::new()).machines(&machines);
    /// let request = Request::new("192.0.2.7:1069".parse()?, "192.0.2.1:69".parse()?, packet::Request::new("menu"))?;
    /// assert_eq!(handler.machine(&request).arch.as_deref(), Some("x64"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn machines(self, machines: &Machines) -> Self {
        Self { machines: machines.clone(), ..self }
    }

    /// The facts about the machine that sent this request, if a rule needs them.
    ///
    /// ```
    /// use tuffet::{Request, handlers::{Memory, Ruled}, packet, rules::{Machine, Rules}};
    ///
    /// let handler = Ruled::new(Rules::default(), Memory::new());
    /// let request = Request::new("192.0.2.7:1069".parse()?, "192.0.2.1:69".parse()?, packet::Request::new("menu"))?;
    /// assert_eq!(handler.machine(&request), Machine::default(), "no rule needs them");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn machine(&self, request: &Request) -> Machine {
        if !self.rules.needs_machine() {
            return Machine::default();
        }
        #[cfg(target_os = "linux")]
        let mac = self.neighbours.mac(request.peer());
        #[cfg(not(target_os = "linux"))]
        let mac = None;
        self.machines.find(request.peer().ip(), mac)
    }

    /// Decides on the request, and lowers its limits to those of the decision.
    fn decide(&self, request: &Request, direction: Direction) -> Result<Verdict, Refusal> {
        let verdict = self.rules.decide(request, direction, &self.machine(request)).map_err(Refusal::ending_search)?;
        if !verdict.candidates().iter().any(|candidate| candidate.request() == request) {
            log::debug!("{}: {} is {verdict:?}", request.peer(), request.shown());
        }
        request.limit(|limits| verdict.limit(limits));
        Ok(verdict)
    }
}

impl Handler for Ruled {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        Box::pin(async {
            let verdict = self.decide(request, Direction::Read)?;
            let mut search = Search::default();
            for candidate in verdict.candidates() {
                if let ControlFlow::Break(answer) = search.hear(candidate.read(&*self.handler).await) {
                    return answer;
                }
            }
            Err(search.over().unwrap_or_else(no_target))
        })
    }

    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        Box::pin(async {
            let verdict = self.decide(request, Direction::Write)?;
            if verdict.upload() == Some(false) {
                return Err(Refusal::denied().because("a rule allows no uploads"));
            }
            for candidate in verdict.candidates() {
                match candidate.source() {
                    Some(source) if source.takes_writes() => return source.write(candidate.request(), data).await,
                    None if self.handler.takes_writes() => return self.handler.write(candidate.request(), data).await,
                    _ => {}
                }
            }
            Err(if verdict.candidates().is_empty() { no_target() } else { Refusal::no_uploads() })
        })
    }

    fn takes_writes(&self) -> bool {
        self.handler.takes_writes() || self.rules.sources().any(|source| source.takes_writes())
    }

    fn close(&self) {
        self.handler.close();
        self.rules.sources().for_each(|source| source.close());
    }

    fn describe(&self) -> String {
        self.handler.describe()
    }
}

fn no_target() -> Refusal {
    Refusal::not_found().because("no target of the rule has values for all its variables")
}

impl fmt::Debug for Ruled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handler = self.handler.describe();
        f.debug_struct("Ruled").field("rules", &self.rules).field("handler", &handler).finish_non_exhaustive()
    }
}
