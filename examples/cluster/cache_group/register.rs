//! Which Redis servers hold the cache's values, where those are not in the log: decided once.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};

use dss_mesi::Epoch;
use serde::{Deserialize, Serialize};

/// The cluster's replicated knowledge of its Redis servers. Deterministic.
///
/// A server is claimed in two steps, with the server told between them: from the first on nobody
/// else of the cluster claims it differently, from the second on it holds what it must, and one
/// that does not has lost it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Register {
    /// What servers call this cluster; empty before the first claim.
    owner: String,
    /// All servers.
    servers: BTreeSet<String>,
    /// What they called their owner before this cluster: the same on all of them.
    former: Option<String>,
    claims: BTreeMap<String, Claim>,
}

/// How far a server is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Claim {
    /// It may not know yet.
    Begun,
    /// It knows.
    Done,
}

/// What a server says about its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Its name.
    pub(crate) owner: String,
    /// All servers of that owner, in order, with commas between them.
    pub(crate) servers: String,
}

/// A change of the register. Each may be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RegisterCommand {
    /// A server is to be claimed.
    Begin { proposal: String, servers: Vec<String>, server: String, found: Option<Found> },
    /// The server knows its owner. No epoch above `newest` was ever used on it.
    Done { server: String, newest: Epoch },
}

impl RegisterCommand {
    /// A claim to `server`, one of `servers`, which says this about its owner.
    pub(crate) fn begin(servers: Vec<String>, server: String, found: Option<Found>) -> Self {
        let random = || RandomState::new().hash_one(&server);
        let proposal = format!("{:016x}{:016x}", random(), random());
        Self::Begin { proposal, servers, server, found }
    }
}

/// What a [`RegisterCommand`] is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RegisterReply {
    /// The server may be claimed for `owner` where it is still `former`'s, or is claimed.
    Claim { owner: String, former: Option<String>, claim: Claim },
    /// The cluster uses these servers, and no others.
    OtherServers { servers: Vec<String> },
    /// The server's data is not of the same origin as that of the others, which is `former`'s.
    OtherData { former: Option<String> },
}

impl Register {
    /// Whether the cluster's values are on Redis servers.
    pub(crate) fn is_in_use(&self) -> bool {
        !self.servers.is_empty()
    }

    /// Performs a command. The second part is an epoch above which views must be from then on.
    pub(crate) fn apply(&mut self, command: RegisterCommand) -> (RegisterReply, Option<Epoch>) {
        match command {
            RegisterCommand::Begin { proposal, servers, server, found } => {
                (self.begin(proposal, servers, &server, found), None)
            }
            RegisterCommand::Done { server, newest } => {
                let Some(claim) = self.claims.get_mut(&server) else {
                    return (self.other_servers(), None);
                };
                let first = std::mem::replace(claim, Claim::Done) == Claim::Begun;
                let used = first && newest > Epoch::ZERO;
                (self.claim(&server), used.then_some(newest))
            }
        }
    }

    fn begin(
        &mut self,
        proposal: String,
        servers: Vec<String>,
        server: &str,
        found: Option<Found>,
    ) -> RegisterReply {
        let servers: BTreeSet<String> = servers.into_iter().collect();
        let in_use = self.is_in_use();
        if (in_use && servers != self.servers) || !servers.contains(server) {
            return self.other_servers();
        }
        if self.claims.contains_key(server) {
            return self.claim(server);
        }
        let placed_alike = found
            .as_ref()
            .is_none_or(|found| servers.iter().map(String::as_str).eq(found.servers.split(',')));
        let found = found.map(|found| found.owner);
        if !placed_alike || (in_use && found != self.former) {
            return RegisterReply::OtherData { former: self.former.clone() };
        }
        if !in_use {
            *self = Self { owner: proposal, servers, former: found, claims: BTreeMap::new() };
        }
        self.claims.insert(server.to_owned(), Claim::Begun);
        self.claim(server)
    }

    fn claim(&self, server: &str) -> RegisterReply {
        let (owner, former) = (self.owner.clone(), self.former.clone());
        RegisterReply::Claim { owner, former, claim: self.claims[server] }
    }

    fn other_servers(&self) -> RegisterReply {
        RegisterReply::OtherServers { servers: self.servers.iter().cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(proposal: &str, server: &str, found: Option<(&str, &str)>) -> RegisterCommand {
        RegisterCommand::Begin {
            proposal: proposal.to_owned(),
            servers: vec!["b".to_owned(), "a".to_owned()],
            server: server.to_owned(),
            found: found.map(|(owner, servers)| Found {
                owner: owner.to_owned(),
                servers: servers.to_owned(),
            }),
        }
    }

    fn claim(owner: &str, former: Option<&str>, claim: Claim) -> RegisterReply {
        RegisterReply::Claim { owner: owner.to_owned(), former: former.map(str::to_owned), claim }
    }

    fn done(server: &str, newest: u64) -> RegisterCommand {
        RegisterCommand::Done { server: server.to_owned(), newest: Epoch::new(newest) }
    }

    #[test]
    fn the_first_claim_names_the_owner_and_fixes_the_servers() {
        let mut register = Register::default();
        assert_eq!(register.apply(done("a", 1)).0, register.other_servers(), "never begun");
        let (begun, _) = register.apply(begin("first", "a", None));
        assert_eq!(begun, claim("first", None, Claim::Begun));
        let (again, _) = register.apply(begin("second", "a", Some(("first", "a,b"))));
        assert_eq!(again, begun, "whoever is late learns what was decided");
        assert_eq!(register.apply(done("a", 0)), (claim("first", None, Claim::Done), None));
        let (other, _) = register.apply(begin("second", "b", None));
        assert_eq!(other, claim("first", None, Claim::Begun));
        let fewer = RegisterCommand::Begin {
            proposal: String::new(),
            servers: vec!["a".to_owned()],
            server: "a".to_owned(),
            found: None,
        };
        assert!(
            matches!(register.apply(fewer).0, RegisterReply::OtherServers { servers } if servers == ["a", "b"])
        );
    }

    #[test]
    fn a_former_clusters_servers_are_taken_over_together_and_its_epochs_are_passed() {
        let mut register = Register::default();
        let found = Some(("old", "a,b"));
        register.apply(begin("new", "a", found));
        let taken = (claim("new", Some("old"), Claim::Done), Some(Epoch::new(7)));
        assert_eq!(register.apply(done("a", 7)), taken);
        assert_eq!(register.apply(done("a", 9)).1, None, "only once");
        let lost = RegisterReply::OtherData { former: Some("old".to_owned()) };
        assert_eq!(register.apply(begin("x", "b", None)).0, lost, "the other one is empty");
        assert_eq!(register.apply(begin("x", "b", Some(("else", "a,b")))).0, lost);
        let (begun, _) = register.apply(begin("x", "b", found));
        assert_eq!(begun, claim("new", Some("old"), Claim::Begun));
    }

    #[test]
    fn values_that_were_placed_otherwise_are_not_taken_over() {
        let mut register = Register::default();
        let refused = RegisterReply::OtherData { former: None };
        for servers in ["a", "a,b,c", "", "b,a"] {
            assert_eq!(register.apply(begin("new", "a", Some(("old", servers)))).0, refused);
        }
        assert!(!register.is_in_use());
    }
}
