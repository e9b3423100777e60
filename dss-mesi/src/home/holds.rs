//! Who may hold a line.

use super::directory::Hold;
use crate::view::NodeId;

/// Nodes and by what they hold the line, in the order of nodes.
///
/// A list and not a tree: nearly all lines have one holder, and a home keeps track of millions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Holds {
    holds: Vec<(NodeId, Hold)>,
}

impl Holds {
    fn place(&self, node: NodeId) -> Result<usize, usize> {
        self.holds.binary_search_by_key(&node, |(holder, _)| *holder)
    }

    pub(super) fn get(&self, node: NodeId) -> Option<&Hold> {
        self.place(node).ok().map(|place| &self.holds[place].1)
    }

    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Hold> {
        self.place(node).ok().map(|place| &mut self.holds[place].1)
    }

    pub(super) fn insert(&mut self, node: NodeId, hold: Hold) {
        match self.place(node) {
            Ok(place) => self.holds[place].1 = hold,
            Err(place) => {
                self.holds.reserve_exact(1);
                self.holds.insert(place, (node, hold));
            }
        }
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        if let Ok(place) = self.place(node) {
            self.holds.remove(place);
        }
    }

    pub(super) fn retain(&mut self, stays: impl Fn(NodeId) -> bool) {
        self.holds.retain(|(node, _)| stays(*node));
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.holds.iter().map(|(node, _)| *node)
    }
}
