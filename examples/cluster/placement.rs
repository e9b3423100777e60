//! Which node is the home of a cache key: the ring over the members of the current view.

use std::sync::{Arc, Mutex, PoisonError};

use dss_mesi::{Epoch, NodeId, Placement, View};
use dss_ring::{HashRing, Weight};

use crate::config::ClusterConfig;

/// Places keys by consistent hashing of node names, so that a node that comes or goes moves only
/// its own share of them.
pub(crate) struct ViewPlacement {
    config: Arc<ClusterConfig>,
    /// The ring of the view that was asked about last: views change rarely, keys are placed
    /// all the time.
    latest: Mutex<(Epoch, Arc<HashRing<String>>)>,
}

impl ViewPlacement {
    pub(crate) fn new(config: Arc<ClusterConfig>) -> Self {
        let empty = Arc::new(ring_of([]));
        Self { config, latest: Mutex::new((Epoch::ZERO, empty)) }
    }

    /// The ring over the members of `view`.
    pub(crate) fn ring(&self, view: &View) -> Arc<HashRing<String>> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.0 != view.epoch {
            let names = view
                .nodes()
                .filter_map(|node| self.config.name(dss_raft::NodeId::new(node.get())))
                .map(str::to_owned);
            *latest = (view.epoch, Arc::new(ring_of(names)));
        }
        latest.1.clone()
    }
}

fn ring_of(names: impl IntoIterator<Item = String>) -> HashRing<String> {
    HashRing::new(names.into_iter().map(|name| (name, Weight::ONE)))
        .expect("names of nodes are unique and far fewer than a ring can hold")
}

impl Placement for ViewPlacement {
    fn home(&self, key: &[u8], view: &View) -> Option<NodeId> {
        let ring = self.ring(view);
        let name = ring.owner(key)?;
        self.config.node_id(name).map(|node| NodeId::new(node.get()))
    }
}

#[cfg(test)]
mod tests {
    use dss_mesi::{Incarnation, Member};

    use super::*;

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
        let placement = ViewPlacement::new(config.clone());
        assert_eq!(placement.home(b"key", &View::default()), None);

        let all = view(&config, 1, &["n1", "n2", "n3"]);
        let fewer = view(&config, 2, &["n1", "n3"]);
        let gone = NodeId::new(config.node_id("n2").unwrap().get());
        let keys: Vec<String> = (0..300).map(|number| format!("key-{number}")).collect();
        let homes = |view: &View| -> Vec<NodeId> {
            keys.iter().map(|key| placement.home(key.as_bytes(), view).unwrap()).collect()
        };
        let (before, after) = (homes(&all), homes(&fewer));
        assert!(before.contains(&gone) && !after.contains(&gone));
        assert!(before.iter().zip(&after).all(|(old, new)| old == new || *old == gone));
    }
}
