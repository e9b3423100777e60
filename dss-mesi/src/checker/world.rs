//! A whole checked cluster, as numbers of what its parts are.

use super::monitor::Monitor;

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Standing {
    /// The number of its cores.
    pub(super) cores: u32,
    pub(super) epoch: u8,
    pub(super) state: Life,
}

/// Whether a node lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Life {
    Up,
    /// Alive, but nobody hears it, and it hears nobody.
    Cut,
    /// The same, and past its lease.
    Expired,
    /// Past its lease, and heard again.
    Back,
    Crashed,
}

/// A message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Letter {
    pub(super) from: u8,
    pub(super) to: u8,
    pub(super) message: u32,
}

/// How often what may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) evictions: u8,
    pub(super) losses: u8,
    pub(super) duplicates: u8,
    pub(super) repeats: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// Node `n` is at `n - 1`.
    pub(super) nodes: Vec<Standing>,
    /// Sorted: any of them may be the next to arrive.
    pub(super) letters: Vec<Letter>,
    /// Calls of main memory that have not taken effect, with the node whose home made them; sorted.
    pub(super) calls: Vec<(u8, u32)>,
    pub(super) memory: u32,
    /// Whom the second view leaves out, if it leaves out anybody, once it is decided.
    pub(super) second: Option<Option<u8>>,
    pub(super) budget: Budget,
    pub(super) monitor: Monitor,
}

impl World {
    pub(super) fn node(&self, node: u8) -> &Standing {
        &self.nodes[usize::from(node - 1)]
    }

    pub(super) fn node_mut(&mut self, node: u8) -> &mut Standing {
        &mut self.nodes[usize::from(node - 1)]
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u8> + use<> {
        1..=u8::try_from(self.nodes.len()).unwrap()
    }

    /// Whether a message between the two arrives.
    pub(super) fn hears(&self, from: u8, to: u8) -> bool {
        let heard = |node| matches!(self.node(node).state, Life::Up | Life::Back | Life::Crashed);
        heard(from) && heard(to) && self.node(to).state != Life::Crashed
    }

    pub(super) fn send(&mut self, letter: Letter) {
        let place = self.letters.partition_point(|other| *other < letter);
        self.letters.insert(place, letter);
    }

    pub(super) fn call(&mut self, node: u8, call: u32) {
        let place = self.calls.partition_point(|other| *other < (node, call));
        self.calls.insert(place, (node, call));
    }

    /// The members of the first view, or of the second.
    pub(super) fn members(&self, epoch: u8, joins: bool) -> Vec<u8> {
        let last = u8::try_from(self.nodes.len()).unwrap();
        let gone = self.second.flatten();
        let members = self.numbers().filter(|node| match epoch {
            1 => !joins || *node != last,
            _ => Some(*node) != gone,
        });
        members.collect()
    }
}
