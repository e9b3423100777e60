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
    /// This life of the node, and every older one, takes part no longer and never again, by its own
    /// wish: it has [surrendered](super::LeaseHolder::surrender) its lease.
    Leave {
        /// Who.
        member: Member,
    },
    /// This life of the node, and every older one, takes part no longer and never again, because
    /// its lease is over. Only a [`LeaseGranter`](super::LeaseGranter) knows when that is so, and
    /// only for as long as its node leads.
    Remove {
        /// Who.
        member: Member,
        /// The term of the leader whose granter says so.
        term: u64,
    },
    /// The leader of this term grants leases from here on, and no leader of an earlier term removes
    /// anybody any more.
    TakeOffice {
        /// Its term.
        term: u64,
    },
    /// Epochs up to this one were used by others, on whom main memory was before: views are above
    /// it from here on.
    Pass {
        /// The last such epoch.
        epoch: Epoch,
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
/// | command | newest life known | node in view | becomes |
/// | --- | --- | --- | --- |
/// | join *i* | none, or older than *i* | any | *i* in the view, epoch + 1 |
/// | join *i* | *i* or newer | any | unchanged |
/// | leave *i* | none, *i* or older | yes | not in the view, *i* the newest, epoch + 1 |
/// | leave *i* | none, *i* or older | no | *i* the newest, same view |
/// | leave *i* | newer than *i* | any | unchanged |
/// | remove *i* in term *t*, who is in office | any | any | as leave *i* |
/// | remove *i* in term *t*, who is not | any | any | unchanged |
/// | take office in term *t* | any | any | *t* in office if it is newer, same view |
/// | pass epoch *e*, at or above the view's | any | any | same members, epoch *e* + 1 |
/// | pass epoch *e*, below the view's | any | any | unchanged |
///
/// So commands may be repeated and may arrive late. A node that was removed comes back as a new,
/// larger incarnation only: a join that was on its way when its life ended brings no dead member
/// back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ViewTable {
    view: View,
    /// The newest life of each node that ever was, in the view or not.
    newest: BTreeMap<NodeId, Incarnation>,
    /// The newest term whose leader has taken office; 0 is before the first.
    office: u64,
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

    /// The term of the leader in office, who grants leases and whose removals count; 0 before the
    /// first.
    #[must_use]
    pub fn office(&self) -> u64 {
        self.office
    }

    /// Performs a command and returns the view then in force. Its epoch has grown by one if the
    /// command changed who takes part, and not at all if it did not.
    pub fn apply(&mut self, command: ViewCommand) -> View {
        let changed = match command {
            ViewCommand::Join { member } => self.join(member),
            ViewCommand::Leave { member } => self.end(member),
            ViewCommand::Remove { member, term } => term == self.office && self.end(member),
            ViewCommand::TakeOffice { term } => {
                self.office = self.office.max(term);
                false
            }
            ViewCommand::Pass { epoch } => self.pass(epoch),
        };
        if changed {
            self.view.epoch = self.view.epoch.next();
        }
        self.view.clone()
    }

    fn pass(&mut self, epoch: Epoch) -> bool {
        // The largest numbers were surely never used, and leave no room for the next views.
        let passes = epoch >= self.view.epoch && epoch < Epoch::new(u64::MAX - 1);
        if passes {
            self.view.epoch = epoch;
        }
        passes
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

    fn end(&mut self, member: Member) -> bool {
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
        encode(&(&self.view, &self.newest, self.office))
    }

    /// The table that these bytes are.
    ///
    /// # Errors
    ///
    /// Where they are none, have something behind them, or contradict themselves.
    pub fn restore(snapshot: &[u8]) -> Result<Self, ViewDecodeError> {
        let (view, newest, office) = decode(snapshot)?;
        let table = Self { view, newest, office };
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

    fn leave(node: u64, incarnation: u64) -> ViewCommand {
        ViewCommand::Leave { member: member(node, incarnation) }
    }

    fn remove(node: u64, incarnation: u64, term: u64) -> ViewCommand {
        ViewCommand::Remove { member: member(node, incarnation), term }
    }

    fn take_office(term: u64) -> ViewCommand {
        ViewCommand::TakeOffice { term }
    }

    fn table(commands: &[ViewCommand]) -> ViewTable {
        let mut table = ViewTable::new();
        for command in commands {
            table.apply(*command);
        }
        table
    }

    fn pass(epoch: u64) -> ViewCommand {
        ViewCommand::Pass { epoch: Epoch::new(epoch) }
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
            (&[join(1, 5), leave(1, 5)], join(1, 5), 2, &[]),
            (&[join(1, 5), leave(1, 5)], join(1, 6), 3, &[member(1, 6)]),
            (&[join(1, 5), join(2, 1)], leave(1, 5), 3, &[member(2, 1)]),
            (&[join(1, 5)], leave(1, 4), 1, &[member(1, 5)]),
            // That a newer life has ended says that the older one had.
            (&[join(1, 5)], leave(1, 6), 2, &[]),
            (&[join(1, 5), leave(1, 5)], leave(1, 5), 2, &[]),
            (&[], leave(1, 5), 0, &[]),
            (&[leave(1, 5)], join(1, 5), 0, &[]),
            (&[leave(1, 5)], join(1, 6), 1, &[member(1, 6)]),
            (&[take_office(7), join(1, 5)], remove(1, 5, 7), 2, &[]),
            (&[take_office(7), join(1, 5)], remove(1, 4, 7), 1, &[member(1, 5)]),
            // A leader that is not in office, any more or yet, removes nobody.
            (&[take_office(7), join(1, 5)], remove(1, 5, 6), 1, &[member(1, 5)]),
            (&[take_office(7), join(1, 5)], remove(1, 5, 8), 1, &[member(1, 5)]),
            (&[join(1, 5), take_office(7)], take_office(8), 1, &[member(1, 5)]),
            (&[join(1, 5)], pass(0), 1, &[member(1, 5)]),
            (&[join(1, 5)], pass(1), 2, &[member(1, 5)]),
            (&[join(1, 5)], pass(57), 58, &[member(1, 5)]),
            (&[pass(57)], join(1, 5), 59, &[member(1, 5)]),
            (&[join(1, 5)], pass(u64::MAX - 1), 1, &[member(1, 5)]),
        ];
        for (before, command, epoch, members) in cases {
            let view = table(before).apply(*command);
            let expected = View { epoch: Epoch::new(*epoch), members: members.to_vec() };
            assert_eq!(view, expected, "{before:?} and then {command:?}");
        }
    }

    #[test]
    fn an_office_is_taken_by_newer_terms_only() {
        let mut table = table(&[take_office(7)]);
        table.apply(take_office(5));
        assert_eq!(table.office(), 7);
        table.apply(take_office(8));
        assert_eq!(table.office(), 8);
    }

    #[test]
    fn the_next_life_must_be_larger_than_the_newest() {
        let mut table = table(&[join(1, 5), leave(1, 9)]);
        assert_eq!(table.newest(NodeId::new(1)), Some(Incarnation::new(9)));
        assert_eq!(table.newest(NodeId::new(2)), None);
        assert!(!table.apply(join(1, 9)).contains(member(1, 9)));
        assert!(table.apply(join(1, 10)).contains(member(1, 10)));
    }

    #[test]
    fn the_bytes_of_format_1_stay_what_they_are() {
        assert_eq!(join(1, 300).encode(), &[1, 0, 1, 0xac, 2][..]);
        assert_eq!(leave(1, 2).encode(), &[1, 1, 1, 2][..]);
        assert_eq!(remove(1, 2, 9).encode(), &[1, 2, 1, 2, 9][..]);
        assert_eq!(take_office(9).encode(), &[1, 3, 9][..]);
        assert_eq!(pass(9).encode(), &[1, 4, 9][..]);
        let table = table(&[join(1, 2), take_office(9), join(3, 4), leave(3, 4)]);
        assert_eq!(table.snapshot(), &[1, 3, 1, 1, 2, 2, 1, 2, 3, 4, 9][..]);
    }

    #[test]
    fn what_is_no_command_is_refused() {
        let malformed: &[&[u8]] = &[&[], &[1], &[1, 5, 1, 1], &[1, 0, 1], &[1, 0, 1, 2, 0]];
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
            ViewTable::restore(&encode(&(view, newest.collect::<BTreeMap<_, _>>(), 7_u64)))
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
        let numbers = (0..8_u32, 0..4_u64, 0..6_u64, 0..4_u64);
        let command = numbers.prop_map(|(kind, node, life, term)| match kind {
            0..=3 => join(node, life),
            4 => leave(node, life),
            5 | 6 => remove(node, life, term),
            _ => take_office(term),
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
