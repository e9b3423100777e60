//! What a node says once all its parts have said it.

use std::collections::{BTreeMap, BTreeSet};

use crate::view::{Epoch, NodeId};

/// Which parts have said something in this view, by whom they said it to.
#[derive(Debug, Default)]
pub(super) struct Unison {
    epoch: Epoch,
    said: BTreeMap<NodeId, BTreeSet<usize>>,
}

impl Unison {
    /// `part` says it to `to`, or repeats it; whether the node says it now. Of repetitions, those of
    /// one part are enough.
    pub(super) fn say(&mut self, epoch: Epoch, to: NodeId, part: usize, parts: usize) -> bool {
        if epoch < self.epoch {
            return false;
        }
        if epoch > self.epoch {
            self.epoch = epoch;
            self.said.clear();
        }
        let said = self.said.entry(to).or_default();
        let new = said.insert(part);
        said.len() == parts && (new || part == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_what_all_its_parts_have_said_in_the_same_view() {
        let (mut unison, node) = (Unison::default(), NodeId::new(1));
        let mut say = |epoch, part| unison.say(Epoch::new(epoch), node, part, 3);
        assert_eq!([say(1, 0), say(1, 1), say(1, 1), say(1, 2)], [false, false, false, true]);
        assert_eq!([say(1, 0), say(1, 1)], [true, false], "repetitions");
        assert_eq!([say(2, 0), say(2, 1), say(1, 2), say(2, 2)], [false, false, false, true]);
    }
}
