//! The way back where a majority is lost for good.

use crate::entry::{Configuration, Entries, Entry, HardState, Payload};
use crate::output::Persist;
use crate::ports::{Restored, Storage, StorageError};
use crate::types::{GroupId, LogId, LogIndex, NodeId, PersistSeq, Term};

/// Why a group is not recovered. Nothing is changed then, unless writing failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// There is nothing to recover.
    #[error("nothing of group {group} is stored here")]
    NothingStored {
        /// Which group.
        group: GroupId,
    },
    /// The log ends where all indexes or terms end: no log that nodes have written does.
    #[error("the log of group {group} has no room behind {}", last.index)]
    NoRoom {
        /// Which group.
        group: GroupId,
        /// The last entry.
        last: LogId,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Makes `node` the only member of `group`, as of its own log: for disasters in which a majority
/// is lost for good, and with it the right to decide anything.
///
/// Call it on the storage of one survivor while its node is not running, for each of its groups.
/// Of several survivors take the one with the longest log: the one whose last entry has the
/// highest term, and among those the highest index. Started again, it leads alone, with everything
/// that its log holds; others join with [`Group::change`](crate::Group::change) as new nodes do, with
/// empty storages. Returns the index of the entry that says so.
///
/// # What is given up
///
/// This breaks the promise that a majority decides, and only whoever calls it knows whether that is
/// safe:
///
/// - What was acknowledged by a majority that did not include this node is lost. What was in its log
///   and never acknowledged is kept.
/// - **The other former members must never run again with their storages.** A majority of them
///   would go on as the same group, beside this one.
///
/// # Errors
///
/// See [`RecoverError`].
pub async fn recover(
    storage: &mut impl Storage,
    group: GroupId,
    node: NodeId,
) -> Result<LogIndex, RecoverError> {
    let restored = storage.restore(group).await?;
    if restored == Restored::default() {
        return Err(RecoverError::NothingStored { group });
    }
    let Restored { hard_state, snapshot, entries } = restored;
    let covered = snapshot.map_or(LogId::ZERO, |snapshot| snapshot.last);
    let last = entries.last().map_or(covered, |entry| entry.id.max(covered));
    let term = hard_state.term.max(last.term);
    if last.index.get() == u64::MAX || term.get() == u64::MAX {
        return Err(RecoverError::NoRoom { group, last });
    }
    let persist = alone(node, hard_state, last, term.next());
    let index = last.index.next();
    storage.persist(vec![(group, persist)]).await?;
    Ok(index)
}

/// The write that makes `node` the only member, from `term` on.
fn alone(node: NodeId, former: HardState, last: LogId, term: Term) -> Persist {
    let mut configuration = Configuration::of_voters([node]);
    configuration.logs.insert(node, former.log);
    let entry = Entry {
        id: LogId { term, index: last.index.next() },
        payload: Payload::Configuration(Box::new(configuration)),
    };
    Persist {
        seq: PersistSeq::new(1),
        // Nobody else is elected in this term by this node.
        hard_state: Some(HardState { term, voted_for: Some(node), ..former }),
        truncate_from: None,
        snapshot: None,
        entries: Entries::from(entry),
        compact_to: None,
    }
}
