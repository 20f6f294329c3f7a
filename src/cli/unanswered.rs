//! Logs which clients got no answer. They have no transfer, so no other line of the log names them.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use tuffet::{ServerHandle, endpoint::DropReason, stats::Unanswered};

use super::format;

/// The clients of a server whose requests stay unanswered.
#[derive(Default)]
pub struct UnansweredClients {
    server: Option<ServerHandle>,
    /// The requests of each client at the last look.
    seen: HashMap<IpAddr, u64>,
}

impl UnansweredClients {
    pub fn watch(&mut self, server: ServerHandle) {
        self.server = Some(server);
    }

    /// A line for each reason for which requests have stayed unanswered since the last look.
    pub fn sum_up(&mut self) -> Vec<String> {
        let Some(server) = &self.server else { return Vec::new() };
        lines(&mut self.seen, &server.unanswered())
    }
}

fn lines(seen: &mut HashMap<IpAddr, u64>, now: &[Unanswered]) -> Vec<String> {
    let mut reasons = BTreeMap::<_, Vec<_>>::new();
    for Unanswered { client, reason, requests, .. } in now {
        // The server forgets a client when many others follow, and then counts it anew.
        let before = seen.get(client).filter(|before| *before <= requests).unwrap_or(&0);
        if requests > before {
            reasons.entry(*reason).or_default().push((requests - before, *client));
        }
    }
    *seen = now.iter().map(|unanswered| (unanswered.client, unanswered.requests)).collect();
    reasons.into_iter().map(|(reason, clients)| line(reason, &clients)).collect()
}

fn line(reason: &str, clients: &[(u64, IpAddr)]) -> String {
    let requests = format::count(clients.iter().map(|(requests, _)| requests).sum(), "request");
    let who = match clients.iter().max() {
        Some((of_most, most)) if clients.len() > 1 => {
            format!("{} clients, {of_most} of them from {most}", clients.len())
        }
        most => most.map_or_else(String::new, |(_, only)| only.to_string()),
    };
    let option = option(reason).map_or_else(String::new, |option| format!(" (see {option})"));
    format!("{requests} without an answer, from {who}: {reason}{option}")
}

/// The option that decides about these requests.
fn option(reason: &str) -> Option<&'static str> {
    let options = [
        (DropReason::Denied, "--allow and --deny"),
        (DropReason::Requests, "--max-requests-per-client"),
        (DropReason::Client, "--max-transfers-per-client"),
        (DropReason::Full, "--max-transfers"),
    ];
    options.into_iter().find_map(|(of, option)| (of.reason() == reason).then_some(option))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_client_with_most_requests_and_the_option() {
        let clients = |requests: &[u64]| -> Vec<_> {
            requests.iter().zip(1..).map(|(&requests, last)| (requests, [10, 0, 0, last].into())).collect()
        };
        assert_eq!(
            line(DropReason::Requests.reason(), &clients(&[3, 20, 1])),
            "24 requests without an answer, from 3 clients, 20 of them from 10.0.0.2: too many requests from this \
             address (see --max-requests-per-client)"
        );
        assert_eq!(
            line(DropReason::Source.reason(), &clients(&[1])),
            "1 request without an answer, from 10.0.0.1: no client has this address"
        );
    }
}
