//! Decides which requests have a line of their own in the log. A room of machines asks for hundreds of missing files,
//! and each of these requests has a line. But the requests of a client in a loop, or of a flood with forged addresses,
//! are summed up, and so are all other lines that one place in the program logs too often.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    hash::Hash,
    time::Instant,
};

use tuffet::{stats::Record, transfer::Outcome};

use super::format;

/// The lines of one client: at once, and per second. A boot has ten to twenty misses.
const EACH: (f64, f64) = (50.0, 1.0);
/// The lines of all clients.
const ALL: (f64, f64) = (1000.0, 20.0);
/// A client that has acknowledged fewer packets than this left early.
const EARLY: u64 = 16;
/// How many clients are counted separately.
const CLIENTS: usize = 1024;

/// Admits lines, and counts the requests without a line. `C` identifies a client.
pub struct Floods<C> {
    all: Bucket,
    clients: HashMap<C, Bucket>,
    held: BTreeMap<String, Held<C>>,
}

/// The requests without a line, of one kind.
struct Held<C> {
    count: u64,
    /// The count for each client that is counted separately.
    clients: HashMap<C, u64>,
    /// The name in the last request.
    path: String,
}

#[derive(Default)]
struct Bucket {
    spent: f64,
    at: Option<Instant>,
}

impl<C: Clone + Display + Eq + Hash + Ord> Floods<C> {
    /// Whether a request of this kind has a line.
    pub fn admit(&mut self, kind: String, client: C, path: &str, now: Instant) -> bool {
        if self.clients.len() >= CLIENTS && !self.clients.contains_key(&client) {
            self.clients.retain(|_, bucket| bucket.is_spent(now, EACH));
        }
        let is_within = match self.clients.len() < CLIENTS || self.clients.contains_key(&client) {
            true => self.clients.entry(client.clone()).or_default().take(now, EACH),
            false => true,
        };
        if is_within && self.all.take(now, ALL) {
            return true;
        }
        let held =
            self.held.entry(kind).or_insert_with(|| Held { count: 0, clients: HashMap::new(), path: String::new() });
        held.count += 1;
        path.clone_into(&mut held.path);
        if held.clients.len() < CLIENTS || held.clients.contains_key(&client) {
            *held.clients.entry(client).or_default() += 1;
        }
        false
    }

    /// A line for each kind of requests without a line since the last call.
    pub fn sum_up(&mut self) -> Vec<String> {
        std::mem::take(&mut self.held).into_iter().map(|(kind, held)| held.line(&kind)).collect()
    }
}

impl<C> Default for Floods<C> {
    fn default() -> Self {
        Self { all: Bucket::default(), clients: HashMap::new(), held: BTreeMap::new() }
    }
}

impl<C: Display + Ord> Held<C> {
    fn line(&self, kind: &str) -> String {
        let (count, path, clients) = (self.count, cut(&self.path), self.clients.len());
        let requests = format::count(count, "more request");
        let Some((most, of_most)) = self.clients.iter().max_by_key(|(client, count)| (**count, *client)) else {
            return format!("{requests} {kind}");
        };
        let who = match clients {
            1 => format!("from {most}"),
            CLIENTS => format!("from {CLIENTS} clients or more, {of_most} of them from {most}"),
            _ => format!("from {clients} clients, {of_most} of them from {most}"),
        };
        format!("{requests} {kind}, {who}; the last was for {path}")
    }
}

/// A place in the program that logs.
pub type Place = (Option<&'static str>, Option<u32>);

/// Admits the lines of each place. Each datagram of a flood may make a place log a line, whatever the line says.
#[derive(Default)]
pub struct Places(HashMap<Place, Repeats>);

#[derive(Default)]
struct Repeats {
    bucket: Bucket,
    /// The number of lines that were not admitted.
    count: u64,
    /// The first of them.
    first: String,
}

impl Places {
    /// Whether this line is logged.
    pub fn admit(&mut self, place: Place, line: &impl Display, now: Instant) -> bool {
        let repeats = self.0.entry(place).or_default();
        if repeats.bucket.take(now, ALL) {
            return true;
        }
        if repeats.count == 0 {
            repeats.first = cut(&line.to_string());
        }
        repeats.count += 1;
        false
    }

    /// A line for each place with lines that were not admitted since the last call.
    pub fn sum_up(&mut self) -> Vec<String> {
        let held = self.0.values_mut().filter(|repeats| repeats.count > 0);
        held.map(|Repeats { count, first, .. }| {
            format!("{}, such as: {}", format::count(std::mem::take(count), "more line"), std::mem::take(first))
        })
        .collect()
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

/// The kind of a transfer that may belong to a flood: a refused request, or one whose client never answered or left
/// early. A forger can guess some answers.
pub fn kind(record: &Record) -> Option<String> {
    match &record.outcome {
        Outcome::Refused(refusal) => Some(format!("refused: ERROR {} {}", refusal.code(), refusal.message())),
        Outcome::TimedOut | Outcome::Replaced(_) if record.acked == 0 => Some("without an answer of the client".into()),
        Outcome::Complete | Outcome::Failed(_) | Outcome::Stopped => None,
        _ => (record.acked < EARLY).then(|| "whose client left early".into()),
    }
}

fn cut(path: &str) -> String {
    let is_long = path.chars().nth(100).is_some();
    path.chars().take(100).chain(is_long.then_some('…')).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_place_that_logs_too_often_is_summed_up() {
        let (mut places, now) = (Places::default(), Instant::now());
        let [one, other] = [1, 2].map(|line| (Some("place"), Some(line)));
        let lines = (0..5000).filter(|n| places.admit(one, &format_args!("line {n}"), now)).count();
        assert_eq!(lines, 1000);
        assert!(places.admit(other, &"line", now), "another place");
        assert_eq!(places.sum_up(), ["4000 more lines, such as: line 1000"]);
        assert_eq!(places.sum_up(), [""; 0]);
        assert!(places.admit(one, &"line", now + Duration::from_secs(1)));
    }

    #[test]
    fn forged_clients_share_the_lines_of_all() {
        let (mut floods, mut now) = (Floods::default(), Instant::now());
        let admit = |floods: &mut Floods<u32>, client, now| floods.admit("refused".into(), client, "file", now);
        // 20000 requests in 10 s, each of another client.
        let mut lines = 0;
        for client in 0..20_000 {
            lines += u32::from(admit(&mut floods, client, now));
            now += Duration::from_micros(500);
        }
        assert!((1000..=1201).contains(&lines), "{lines}");
        let sums = floods.sum_up();
        let sum = format!("{} more requests refused, from 1024 clients or more, 1 of them from ", 20_000 - lines);
        assert!(matches!(&sums[..], [one] if one.starts_with(&sum)), "{sums:?}");
        // A client in a loop has some lines of its own.
        now += Duration::from_secs(60);
        let lines = (0..1000).filter(|_| admit(&mut floods, 7, now)).count();
        assert_eq!(
            (lines, floods.sum_up()),
            (50, vec!["950 more requests refused, from 7; the last was for file".into()])
        );
    }
}
