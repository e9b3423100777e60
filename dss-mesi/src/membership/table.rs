//! The replicated table of members: a state machine whose inputs come from a log.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::view::{Epoch, Incarnation, Member, NodeId, View};

/// The first byte of an encoded command or snapshot.
const FORMAT: u8 = 1;

/// A change of the membership, to be replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ViewCommand {
    /// This life of the node takes part from the next view on. Whoever proposes it vouches that
    /// every older life of the node has stopped for good.
    Join {
        /// Who.
        member: Member,
    },
    /// This life of the node, and every older one, takes part no longer and never again. May only
    /// be proposed by the leader for a member that its
    /// [`LeaseGranter::expired`](super::LeaseGranter::expired) named, or by the member itself once
    /// it has [surrendered](super::LeaseHolder::surrender) its lease.
    Remove {
        /// Who.
        member: Member,
    },
}

impl ViewCommand {
    /// The bytes for the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// The command that these bytes are.
    ///
    /// # Errors
    ///
    /// Where they are none, or have something behind them.
    pub fn decode(bytes: &[u8]) -> Result<Self, ViewDecodeError> {
        decode(bytes)
    }
}

/// Every node's copy of who takes part.
///
/// | command | newest life known | in view | becomes |
/// | --- | --- | --- | --- |
/// | join *i* | none, or older than *i* | any | *i* in the view, epoch + 1 |
/// | join *i* | *i* or newer | any | unchanged |
/// | remove *i* | none, *i* or older | yes | not in the view, *i* the newest, epoch + 1 |
/// | remove *i* | none, *i* or older | no | *i* the newest, same view |
/// | remove *i* | newer than *i* | any | unchanged |
///
/// So commands may be repeated and may arrive late. A node that was removed comes back as a new,
/// larger incarnation only: a join that was on its way when its life ended brings no dead member
/// back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ViewTable {
    view: View,
    /// The newest life of each node that ever was, in the view or not.
    newest: BTreeMap<NodeId, Incarnation>,
}

impl ViewTable {
    /// The table before the first command: [`Epoch::ZERO`], nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The view in force.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The newest life of this node that joined or was removed. The next one must be larger.
    #[must_use]
    pub fn newest(&self, node: NodeId) -> Option<Incarnation> {
        self.newest.get(&node).copied()
    }

    /// Performs a command and returns the view then in force. Its epoch has grown by one if the
    /// command changed who takes part, and not at all if it did not.
    pub fn apply(&mut self, command: ViewCommand) -> View {
        let changed = match command {
            ViewCommand::Join { member } => self.join(member),
            ViewCommand::Remove { member } => self.remove(member),
        };
        if changed {
            self.view.epoch = self.view.epoch.next();
        }
        self.view.clone()
    }

    fn join(&mut self, member: Member) -> bool {
        if self.newest(member.node).is_some_and(|newest| newest >= member.incarnation) {
            return false;
        }
        self.newest.insert(member.node, member.incarnation);
        match self.place(member.node) {
            Ok(place) => self.view.members[place] = member,
            Err(place) => self.view.members.insert(place, member),
        }
        true
    }

    fn remove(&mut self, member: Member) -> bool {
        if self.newest(member.node).is_some_and(|newest| newest > member.incarnation) {
            return false;
        }
        self.newest.insert(member.node, member.incarnation);
        let place = self.place(member.node);
        if let Ok(place) = place {
            self.view.members.remove(place);
        }
        place.is_ok()
    }

    fn place(&self, node: NodeId) -> Result<usize, usize> {
        self.view.members.binary_search_by_key(&node, |member| member.node)
    }

    /// The table as bytes.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        encode(&(&self.view, &self.newest))
    }

    /// The table that these bytes are.
    ///
    /// # Errors
    ///
    /// Where they are none, have something behind them, or contradict themselves.
    pub fn restore(snapshot: &[u8]) -> Result<Self, ViewDecodeError> {
        let (view, newest) = decode(snapshot)?;
        let table = Self { view, newest };
        if table.is_consistent() { Ok(table) } else { Err(ViewDecodeError::Malformed) }
    }

    /// What holds of every table that commands can lead to.
    fn is_consistent(&self) -> bool {
        let members = &self.view.members;
        // Each member is the newest life of its node; none is before the first view; there is room
        // for the next epoch.
        members.is_sorted_by(|earlier, later| earlier.node < later.node)
            && members.iter().all(|member| self.newest(member.node) == Some(member.incarnation))
            && (members.is_empty() || self.view.epoch > Epoch::ZERO)
            && self.view.epoch < Epoch::new(u64::MAX)
    }
}

/// Why bytes were no command or no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ViewDecodeError {
    /// They are of a format that this release does not know.
    #[error("format {0} is not known")]
    Format(u8),
    /// They are cut short, damaged or inconsistent.
    #[error("malformed bytes")]
    Malformed,
}

fn encode(value: &impl Serialize) -> Bytes {
    let encoded = postcard::to_extend(value, vec![FORMAT]);
    encoded.expect("numbers and sequences of known length can be written to memory").into()
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ViewDecodeError> {
    let (format, encoded) = bytes.split_first().ok_or(ViewDecodeError::Malformed)?;
    if *format != FORMAT {
        return Err(ViewDecodeError::Format(*format));
    }
    match postcard::take_from_bytes(encoded) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(ViewDecodeError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(node: u64, incarnation: u64) -> Member {
        Member { node: NodeId::new(node), incarnation: Incarnation::new(incarnation) }
    }

    fn join(node: u64, incarnation: u64) -> ViewCommand {
        ViewCommand::Join { member: member(node, incarnation) }
    }

    fn remove(node: u64, incarnation: u64) -> ViewCommand {
        ViewCommand::Remove { member: member(node, incarnation) }
    }

    fn table(commands: &[ViewCommand]) -> ViewTable {
        let mut table = ViewTable::new();
        for command in commands {
            table.apply(*command);
        }
        table
    }

    #[test]
    fn every_command_does_what_the_table_says() {
        let cases: &[(&[ViewCommand], ViewCommand, u64, &[Member])] = &[
            (&[], join(1, 5), 1, &[member(1, 5)]),
            (&[join(2, 1)], join(1, 1), 2, &[member(1, 1), member(2, 1)]),
            // A newer life replaces the older one at once, in one view.
            (&[join(1, 5)], join(1, 6), 2, &[member(1, 6)]),
            (&[join(1, 5)], join(1, 5), 1, &[member(1, 5)]),
            (&[join(1, 5)], join(1, 4), 1, &[member(1, 5)]),
            (&[join(1, 5), remove(1, 5)], join(1, 5), 2, &[]),
            (&[join(1, 5), remove(1, 5)], join(1, 6), 3, &[member(1, 6)]),
            (&[join(1, 5), join(2, 1)], remove(1, 5), 3, &[member(2, 1)]),
            (&[join(1, 5)], remove(1, 4), 1, &[member(1, 5)]),
            // That a newer life has ended says that the older one had.
            (&[join(1, 5)], remove(1, 6), 2, &[]),
            (&[join(1, 5), remove(1, 5)], remove(1, 5), 2, &[]),
            (&[], remove(1, 5), 0, &[]),
            (&[remove(1, 5)], join(1, 5), 0, &[]),
            (&[remove(1, 5)], join(1, 6), 1, &[member(1, 6)]),
        ];
        for (before, command, epoch, members) in cases {
            let view = table(before).apply(*command);
            let expected = View { epoch: Epoch::new(*epoch), members: members.to_vec() };
            assert_eq!(view, expected, "{before:?} and then {command:?}");
        }
    }

    #[test]
    fn the_next_life_must_be_larger_than_the_newest() {
        let mut table = table(&[join(1, 5), remove(1, 9)]);
        assert_eq!(table.newest(NodeId::new(1)), Some(Incarnation::new(9)));
        assert_eq!(table.newest(NodeId::new(2)), None);
        assert!(!table.apply(join(1, 9)).contains(member(1, 9)));
        assert!(table.apply(join(1, 10)).contains(member(1, 10)));
    }

    #[test]
    fn the_bytes_of_format_1_stay_what_they_are() {
        assert_eq!(join(1, 300).encode(), &[1, 0, 1, 0xac, 2][..]);
        assert_eq!(remove(1, 2).encode(), &[1, 1, 1, 2][..]);
        let table = table(&[join(1, 2), join(3, 4), remove(3, 4)]);
        assert_eq!(table.snapshot(), &[1, 3, 1, 1, 2, 2, 1, 2, 3, 4][..]);
    }

    #[test]
    fn what_is_no_command_is_refused() {
        let malformed: &[&[u8]] = &[&[], &[1], &[1, 2, 1, 1], &[1, 0, 1], &[1, 0, 1, 2, 0]];
        for bytes in malformed {
            assert_eq!(ViewCommand::decode(bytes), Err(ViewDecodeError::Malformed), "{bytes:?}");
        }
        assert_eq!(ViewCommand::decode(&[2, 0, 1, 2]), Err(ViewDecodeError::Format(2)));
    }

    #[test]
    fn a_snapshot_that_contradicts_itself_is_refused() {
        let snapshot = |epoch: u64, members: &[Member], newest: &[Member]| {
            let view = View { epoch: Epoch::new(epoch), members: members.to_vec() };
            let newest = newest.iter().map(|newest| (newest.node, newest.incarnation));
            ViewTable::restore(&encode(&(view, newest.collect::<BTreeMap<_, _>>())))
        };
        let (one, two) = (member(1, 5), member(2, 5));
        assert!(snapshot(4, &[one, two], &[one, two]).is_ok());
        let refused = Err(ViewDecodeError::Malformed);
        assert_eq!(snapshot(4, &[two, one], &[one, two]), refused, "not sorted");
        assert_eq!(snapshot(4, &[one, one], &[one]), refused, "twice");
        assert_eq!(snapshot(4, &[one], &[two]), refused, "not the newest life");
        assert_eq!(snapshot(0, &[one], &[one]), refused, "before the first view");
        assert_eq!(snapshot(u64::MAX, &[one], &[one]), refused, "after the last epoch");
    }

    fn commands() -> impl Strategy<Value = Vec<ViewCommand>> {
        let command = (any::<bool>(), 0..4_u64, 0..6_u64).prop_map(|(joins, node, life)| {
            if joins { join(node, life) } else { remove(node, life) }
        });
        prop::collection::vec(command, 0..40)
    }

    proptest! {
        #[test]
        fn commands_and_snapshots_come_back(commands in commands()) {
            for command in &commands {
                prop_assert_eq!(ViewCommand::decode(&command.encode()), Ok(*command));
            }
            let table = table(&commands);
            prop_assert_eq!(ViewTable::restore(&table.snapshot()), Ok(table));
        }

        #[test]
        fn epochs_count_the_real_changes(commands in commands()) {
            let mut table = ViewTable::new();
            for command in commands {
                let before = table.view().clone();
                let after = table.apply(command);
                let changed = before.members != after.members;
                prop_assert_eq!(after.epoch.get(), before.epoch.get() + u64::from(changed));
                prop_assert!(table.is_consistent());
                prop_assert_eq!(&table.apply(command), &after, "a repetition changes nothing");
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = ViewCommand::decode(&bytes);
            if let Ok(mut table) = ViewTable::restore(&bytes) {
                table.apply(join(1, u64::MAX));
            }
        }
    }
}
