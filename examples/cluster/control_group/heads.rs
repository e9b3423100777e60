//! How far the audit logs go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many chains of one node are remembered. A node begins one with each new key.
const CHAINS_MAX: usize = 64;

/// The name of one chain of audit entries: random, made with its key.
pub(crate) type Chain = [u8; 16];

/// An entry that an audit log must have: whoever cuts the log before it is found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditHead {
    /// The name of the node whose log it is.
    pub(crate) node: String,
    /// The chain.
    pub(crate) chain: Chain,
    /// The number of the entry, from 1.
    pub(crate) sequence: u64,
    /// What the chain is at the entry.
    pub(crate) mac: [u8; 32],
}

/// The newest head of each chain. Deterministic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Heads(BTreeMap<String, Vec<AuditHead>>);

impl Heads {
    /// Remembers `head`, unless a later one of its chain is known; the one that is known then.
    pub(super) fn apply(&mut self, head: AuditHead) -> AuditHead {
        let chains = self.0.entry(head.node.clone()).or_default();
        if let Some(known) = chains.iter_mut().find(|known| known.chain == head.chain) {
            if known.sequence < head.sequence {
                *known = head;
            }
            return known.clone();
        }
        if chains.len() >= CHAINS_MAX {
            chains.remove(0);
        }
        chains.push(head.clone());
        head
    }

    /// The head of this chain of a node.
    pub(crate) fn of_chain(&self, node: &str, chain: Chain) -> Option<&AuditHead> {
        self.0.get(node)?.iter().find(|head| head.chain == chain)
    }

    /// Every head.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &AuditHead> {
        self.0.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(chain: u8, sequence: u64) -> AuditHead {
        let mac = [u8::try_from(sequence).unwrap(); 32];
        AuditHead { node: "n1".to_owned(), chain: [chain; 16], sequence, mac }
    }

    #[test]
    fn a_head_only_advances_and_each_chain_has_its_own() {
        let mut heads = Heads::default();
        assert_eq!(heads.apply(head(1, 5)), head(1, 5));
        assert_eq!(heads.apply(head(1, 3)), head(1, 5), "what was there cannot be taken back");
        let forged = AuditHead { mac: [9; 32], ..head(1, 5) };
        assert_eq!(heads.apply(forged), head(1, 5));
        heads.apply(head(1, 7));
        heads.apply(head(2, 1));
        assert_eq!(heads.iter().collect::<Vec<_>>(), [&head(1, 7), &head(2, 1)]);
        assert_eq!(heads.of_chain("n1", [2; 16]), Some(&head(2, 1)));
        assert_eq!(heads.of_chain("n2", [2; 16]), None);
    }

    #[test]
    fn the_oldest_chain_is_forgotten_where_there_are_too_many() {
        let mut heads = Heads::default();
        for chain in 0..=u8::try_from(CHAINS_MAX).unwrap() {
            heads.apply(head(chain, 1));
        }
        assert_eq!(heads.iter().count(), CHAINS_MAX);
        assert_eq!(heads.iter().next(), Some(&head(1, 1)));
    }
}
