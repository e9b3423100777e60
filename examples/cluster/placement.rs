//! Which node is the home of a cache key: the ring over the members of the current view.

use std::sync::{Arc, Mutex, PoisonError};

use dss_mesi::{Epoch, NodeId, Placement, View};
use dss_ring::{HashRing, Weight};

use crate::config::raft_id;
use crate::members::Members;

/// Places keys by consistent hashing of node names, so that a node that comes or goes moves only
/// its own share of them.
pub(crate) struct ViewPlacement {
    members: Members,
    /// The ring of the view that was asked about last: views change rarely, keys are placed
    /// all the time.
    latest: Mutex<(Epoch, Arc<HashRing<String>>)>,
}

impl ViewPlacement {
    pub(crate) fn new(members: Members) -> Self {
        let empty = Arc::new(ring_of([]));
        Self { members, latest: Mutex::new((Epoch::ZERO, empty)) }
    }

    /// The ring over the members of `view`; nothing where one of them was added so recently that
    /// its name is not known here yet. A ring without it would give its keys to others, while nodes
    /// that know it do not.
    pub(crate) fn ring(&self, view: &View) -> Option<Arc<HashRing<String>>> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.0 != view.epoch {
            let name = |node: NodeId| self.members.name(dss_raft::NodeId::new(node.get()));
            let names: Option<Vec<_>> = view.nodes().map(name).collect();
            *latest = (view.epoch, Arc::new(ring_of(names?)));
        }
        Some(latest.1.clone())
    }
}

fn ring_of(names: impl IntoIterator<Item = String>) -> HashRing<String> {
    HashRing::new(names.into_iter().map(|name| (name, Weight::ONE)))
        .expect("names of nodes are unique and far fewer than a ring can hold")
}

impl Placement for ViewPlacement {
    fn home(&self, key: &[u8], view: &View) -> Option<NodeId> {
        let ring = self.ring(view)?;
        let name = ring.owner(key)?;
        Some(NodeId::new(raft_id(name.as_bytes()).get()))
    }
}

#[cfg(test)]
mod tests {
    use dss_mesi::{Incarnation, Member};

    use super::*;
    use crate::config::ClusterConfig;

    fn view(config: &ClusterConfig, epoch: u64, names: &[&str]) -> View {
        let mut members: Vec<Member> = names
            .iter()
            .map(|name| Member {
                node: NodeId::new(config.node_id(name).unwrap().get()),
                incarnation: Incarnation::new(1),
            })
            .collect();
        members.sort();
        View { epoch: Epoch::new(epoch), members }
    }

    #[test]
    fn keys_live_on_members_of_the_view_and_move_only_from_one_that_goes() {
        let config = Arc::new(ClusterConfig::local());
        let placement = ViewPlacement::new(Members::of_file(config.clone()));
        assert_eq!(placement.home(b"key", &View::default()), None);

        let all = view(&config, 1, &["n1", "n2", "n3"]);
        let fewer = view(&config, 2, &["n1", "n3"]);
        let gone = NodeId::new(config.node_id("n2").unwrap().get());
        let keys: Vec<String> = (0..300).map(|number| format!("key-{number}")).collect();
        let mut strange = view(&config, 3, &["n1"]);
        strange.members.push(Member { node: NodeId::new(7), incarnation: Incarnation::new(1) });
        assert_eq!(placement.home(b"key", &strange), None, "its name may be learned yet");

        let homes = |view: &View| -> Vec<NodeId> {
            keys.iter().map(|key| placement.home(key.as_bytes(), view).unwrap()).collect()
        };
        let (before, after) = (homes(&all), homes(&fewer));
        assert!(before.contains(&gone) && !after.contains(&gone));
        assert!(before.iter().zip(&after).all(|(old, new)| old == new || *old == gone));
    }
}
