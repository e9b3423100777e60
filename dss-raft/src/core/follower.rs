//! The follower's side of replication (section 5.3).

use super::Raft;
use super::durability::Change;
use super::planted::PlantedBug;
use super::role::Role;
use crate::entry::Entries;
use crate::message::{MessageBody, Round};
use crate::types::{LogId, LogIndex, NodeId};

impl Raft {
    /// Stores the leader's entries behind `previous`, or says that its log lacks `previous`.
    pub(super) fn handle_append(
        &mut self,
        from: NodeId,
        previous: LogId,
        entries: Entries,
        commit: LogIndex,
        round: Round,
    ) {
        if !self.is_run_behind(previous, &entries) {
            return;
        }
        let last = entries.last_index().unwrap_or(previous.index);
        if previous.index > self.commit_index && !self.log.contains(previous) {
            let hint = self.conflict_hint(previous.index);
            let body = MessageBody::AppendRejected { previous: previous.index, hint, round };
            return self.promise(from, body);
        }
        let carries_entries = !entries.is_empty();
        if !self.store(entries) {
            return;
        }
        self.verify(last, commit);
        self.accept(from, last, carries_entries, round);
    }

    /// Whether a leader of the present term can have such entries behind `previous`.
    fn is_run_behind(&self, previous: LogId, entries: &Entries) -> bool {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return previous.term <= self.hard_state.term;
        };
        first.id.index == previous.index.next()
            && first.id.term >= previous.term
            && last.id.term <= self.hard_state.term
            && entries.is_consecutive()
    }

    /// Where the log can match the leader's at the latest, given that it does not at `previous`.
    fn conflict_hint(&self, previous: LogIndex) -> LogId {
        let last = self.log.last();
        if previous > last.index {
            return last;
        }
        // What is committed matches every leader's log, so it is never given up.
        let before = self.log.first_of_term(previous).previous().max(self.commit_index);
        self.log.id_at(before).unwrap_or(self.log.base())
    }

    /// Appends what the log does not have, replacing what contradicts it. Says whether it could:
    /// committed entries contradict no leader, so whoever does contradict them is not believed.
    fn store(&mut self, entries: Entries) -> bool {
        let known = entries.first_index().map_or(0, |first| {
            if first > self.log.last().index {
                return 0;
            }
            // Up to the commit index, which may be in the snapshot, everything matches.
            (entries.iter())
                .take_while(|e| {
                    e.id.index <= self.commit_index
                        || self.log.contains(e.id)
                        || (self.has(PlantedBug::KeepConflictingEntries)
                            && e.id.index <= self.log.last().index)
                })
                .count()
        });
        if known == entries.len() && known > 0 && self.has(PlantedBug::TruncateOnMatch) {
            self.drop_behind(&entries);
        }
        let entries = if known > 0 { entries.slice(known..entries.len()) } else { entries };
        let Some(first) = entries.first_index() else { return true };
        let conflicts = first <= self.log.last().index;
        if conflicts {
            if first <= self.commit_index {
                return false;
            }
            self.forget_from(first);
        }
        if entries.may_hold_configuration() {
            self.membership.append(&entries);
            self.leadership_changed = true;
        }
        self.log.append(entries.clone());
        let truncate_from = conflicts.then_some(first);
        self.issue(Change { truncate_from, entries, ..Change::default() });
        true
    }

    /// Drops the entries from `first` on, and with them what was in force or known by them.
    fn forget_from(&mut self, first: LogIndex) {
        self.write_pending();
        self.log.truncate_from(first);
        if !self.has(PlantedBug::KeepTruncatedConfiguration) {
            self.membership.truncate_from(first);
            self.leadership_changed = true;
        }
        self.verified_at_most(first.previous());
    }

    /// Keeps what is verified within the log when that is cut, so that no commit is believed
    /// beyond its end.
    pub(super) fn verified_at_most(&mut self, last: LogIndex) {
        if let Role::Follower(follower) = &mut self.role {
            follower.verified = follower.verified.min(last);
        }
    }

    /// What [`PlantedBug::TruncateOnMatch`] does.
    fn drop_behind(&mut self, entries: &Entries) {
        let Some(from) = entries.last_index().map(LogIndex::next) else { return };
        if from > self.commit_index && from <= self.log.last().index {
            self.forget_from(from);
            self.issue(Change { truncate_from: Some(from), ..Change::default() });
        }
    }

    /// The log matches the leader's up to `last`; commits are believed up to there.
    pub(super) fn verify(&mut self, last: LogIndex, commit: LogIndex) {
        let Role::Follower(follower) = &mut self.role else { return };
        follower.verified = follower.verified.max(last);
        let verified = follower.verified;
        let limit =
            if self.has(PlantedBug::CommitWithoutMatch) { self.log.last().index } else { verified };
        self.commit_index = self.commit_index.max(commit.min(limit));
    }

    /// Answers an append that ends in `last`.
    fn accept(&mut self, to: NodeId, last: LogIndex, carries_entries: bool, round: Round) {
        if carries_entries {
            let after = self
                .writes
                .after_entry(last)
                .filter(|_| !self.has(PlantedBug::AcknowledgeBeforeDurable));
            return self.send(to, MessageBody::AppendAccepted { matched: last, round }, after);
        }
        // A heartbeat is answered at once, whatever the disk is busy with, and so with what is
        // durable already: it is asked whether this node follows, and the leader's reads and its
        // office hang on it.
        let matched = last.min(self.writes.durable_index());
        self.promise(to, MessageBody::AppendAccepted { matched, round });
    }
}
