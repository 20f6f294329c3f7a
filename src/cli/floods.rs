//! Decides which transfers have a line of their own in the log. A room of machines asks for hundreds of missing files,
//! and each of these requests has a line. But the requests of a client in a loop, or of a flood with forged addresses,
//! are summed up.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Instant,
};

use tuffet::{
    stats::Record,
    transfer::{Outcome, Outcome::Refused},
};

/// The lines of one client: at once, and per second. A boot has ten to twenty misses.
const EACH: (f64, f64) = (50.0, 1.0);
/// The lines of all clients.
const ALL: (f64, f64) = (1000.0, 20.0);
/// How many clients are counted separately.
const CLIENTS: usize = 1024;

/// Admits lines, and counts the transfers without a line.
#[derive(Default)]
pub struct Floods {
    all: Bucket,
    clients: HashMap<IpAddr, Bucket>,
    held: BTreeMap<String, Held>,
}

/// The transfers without a line, of one kind.
struct Held {
    count: u64,
    /// The count for each client that is counted separately.
    clients: HashMap<IpAddr, u64>,
    /// The name in the last request.
    path: String,
}

#[derive(Default)]
struct Bucket {
    spent: f64,
    at: Option<Instant>,
}

impl Floods {
    /// Whether this transfer has a line.
    pub fn admit(&mut self, record: &Record, now: Instant) -> bool {
        let Some(kind) = kind(record) else { return true };
        let client = record.peer.ip().to_canonical();
        if self.clients.len() >= CLIENTS && !self.clients.contains_key(&client) {
            self.clients.retain(|_, bucket| bucket.is_spent(now, EACH));
        }
        let is_within = match self.clients.len() < CLIENTS || self.clients.contains_key(&client) {
            true => self.clients.entry(client).or_default().take(now, EACH),
            false => true,
        };
        if is_within && self.all.take(now, ALL) {
            return true;
        }
        let held =
            self.held.entry(kind).or_insert_with(|| Held { count: 0, clients: HashMap::new(), path: String::new() });
        held.count += 1;
        held.path.clone_from(&record.path);
        if held.clients.len() < CLIENTS || held.clients.contains_key(&client) {
            *held.clients.entry(client).or_default() += 1;
        }
        false
    }

    /// A line for each kind of transfers without a line since the last call.
    pub fn sum_up(&mut self) -> Vec<String> {
        std::mem::take(&mut self.held).into_iter().map(|(kind, held)| held.line(&kind)).collect()
    }
}

impl Held {
    fn line(&self, kind: &str) -> String {
        let (count, path, clients) = (self.count, cut(&self.path), self.clients.len());
        let requests = if count == 1 { "request" } else { "requests" };
        let Some((most, of_most)) = self.clients.iter().max_by_key(|(client, count)| (**count, **client)) else {
            return format!("{count} more {requests} {kind}");
        };
        let who = match clients {
            1 => format!("from {most}"),
            CLIENTS => format!("from {CLIENTS} clients or more, {of_most} of them from {most}"),
            _ => format!("from {clients} clients, {of_most} of them from {most}"),
        };
        format!("{count} more {requests} {kind}, {who}; the last was for {path}")
    }
}

impl Bucket {
    fn take(&mut self, now: Instant, (size, per_second): (f64, f64)) -> bool {
        self.refill(now, per_second);
        let any = self.spent + 1.0 <= size;
        if any {
            self.spent += 1.0;
        }
        any
    }

    fn is_spent(&mut self, now: Instant, (_, per_second): (f64, f64)) -> bool {
        self.refill(now, per_second);
        self.spent > 0.0
    }

    fn refill(&mut self, now: Instant, per_second: f64) {
        let since = self.at.replace(now).map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.spent = (self.spent - since * per_second).max(0.0);
    }
}

/// The kind of a transfer that may belong to a flood: a refused request, or one whose client never answered.
fn kind(record: &Record) -> Option<String> {
    match &record.outcome {
        Refused(refusal) => Some(format!("refused: ERROR {} {}", refusal.code(), refusal.message())),
        Outcome::TimedOut | Outcome::Replaced(_) if record.acked == 0 => Some("without an answer of the client".into()),
        _ => None,
    }
}

fn cut(path: &str) -> String {
    let is_long = path.chars().nth(100).is_some();
    path.chars().take(100).chain(is_long.then_some('…')).collect()
}
