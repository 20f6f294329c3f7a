//! The last ended transfers.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use crate::{stats::Record, sync::Mutex};

/// The most machines: a room of them.
const MACHINES: usize = 128;
/// The most transfers of one machine: a boot takes ten to forty.
const EACH: usize = 64;
/// The most bytes of all records together.
const ALL: usize = 2 << 20;

#[derive(Debug, Default)]
pub(super) struct History(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    machines: HashMap<IpAddr, VecDeque<Entry>>,
    /// The number of the last record.
    last: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    json: Arc<str>,
}

impl History {
    pub(super) fn insert(&self, record: &Record) {
        // Records are short, whatever the client sent.
        let json = serde_json::to_string(record).unwrap_or_default().into();
        self.0.lock().insert(record.peer.ip().to_canonical(), json);
    }

    /// The machines in the history.
    pub(super) fn machines(&self) -> Vec<IpAddr> {
        self.0.lock().machines.keys().copied().collect()
    }

    /// The number of the last record, and the records after this number, in order.
    pub(super) fn since(&self, number: u64) -> (u64, Vec<Arc<str>>) {
        let state = self.0.lock();
        let new = |entry: &&Entry| entry.number > number;
        let mut found: Vec<_> = state.machines.values().flat_map(|entries| entries.iter().filter(new)).collect();
        found.sort_unstable_by_key(|entry| entry.number);
        (state.last, found.into_iter().map(|entry| entry.json.clone()).collect())
    }
}

impl State {
    fn insert(&mut self, machine: IpAddr, json: Arc<str>) {
        self.last += 1;
        self.bytes += json.len();
        self.machines.entry(machine).or_default().push_back(Entry { number: self.last, json });
        if self.machines[&machine].len() > EACH {
            self.forget_first_of(machine);
        }
        while self.machines.len() > MACHINES || self.bytes > ALL {
            let quiet_since = |machine: &IpAddr| self.machines[machine].back().map(|entry| entry.number);
            let Some(quietest) = self.machines.keys().copied().min_by_key(quiet_since) else { break };
            self.forget_first_of(quietest);
        }
    }

    fn forget_first_of(&mut self, machine: IpAddr) {
        let Some(entries) = self.machines.get_mut(&machine) else { return };
        self.bytes -= entries.pop_front().map_or(0, |entry| entry.json.len());
        if entries.is_empty() {
            self.machines.remove(&machine);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn each_machine_keeps_its_last_records() {
        let mut state = State::default();
        state.insert(machine(1), "quiet".into());
        for _ in 0..1000 {
            state.insert(machine(2), "busy".into());
        }
        assert_eq!((state.machines[&machine(1)].len(), state.machines[&machine(2)].len()), (1, EACH));
        assert_eq!(state.bytes, 5 + EACH * 4);
    }

    #[test]
    fn the_quietest_is_forgotten_first() {
        let mut state = State::default();
        for n in 0..MACHINES as u32 {
            state.insert(machine(n), "a".into());
        }
        state.insert(machine(0), "again".into());
        state.insert(machine(999), "new".into());
        assert_eq!(state.machines.len(), MACHINES);
        assert!(state.machines.contains_key(&machine(0)) && !state.machines.contains_key(&machine(1)));
    }

    #[test]
    fn the_history_is_bounded() {
        let mut state = State::default();
        let long: Arc<str> = "x".repeat(2048).into();
        for n in 0..100_000 {
            state.insert(machine(n % 100), long.clone());
        }
        assert!(state.bytes <= ALL);
        let sum: usize = state.machines.values().flatten().map(|entry| entry.json.len()).sum();
        assert_eq!(sum, state.bytes);
    }

    #[test]
    fn only_new_records_are_returned() {
        let history = History::default();
        for (n, text) in ["a", "b", "c"].into_iter().enumerate() {
            history.0.lock().insert(machine(n as u32 % 2), text.into());
        }
        let since = |number| history.since(number);
        assert_eq!(since(0), (3, vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!(since(2), (3, vec!["c".into()]));
        assert_eq!(since(3), (3, vec![]));
    }
}
