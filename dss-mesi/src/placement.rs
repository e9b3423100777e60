//! A placement for tests and for clusters that bring none.

use crate::ports::Placement;
use crate::view::{NodeId, View};

/// Gives each key to the member with the largest hash of key and member (rendezvous hashing): when
/// a member comes or goes, only the keys that it gets or had move.
///
/// Costs a hash per member for each key: for small clusters. Larger ones bring a hash ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RendezvousPlacement;

impl Placement for RendezvousPlacement {
    fn home(&self, key: &[u8], view: &View) -> Option<NodeId> {
        let key = fnv1a(key);
        view.nodes().max_by_key(|node| (mix(key ^ mix(node.get())), *node))
    }
}

/// FNV-1a with 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finaliser of `SplitMix64`, which spreads every bit over all.
pub(crate) const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{Epoch, Incarnation, Member};

    fn view(nodes: std::ops::Range<u64>) -> View {
        let member = |node| Member { node: NodeId::new(node), incarnation: Incarnation::new(1) };
        View { epoch: Epoch::new(1), members: nodes.map(member).collect() }
    }

    #[test]
    fn only_the_keys_of_a_lost_member_move() {
        let (before, after) = (view(0..5), view(0..4));
        let mut moved = 0;
        for number in 0..10_000_u32 {
            let key = number.to_be_bytes();
            let home = RendezvousPlacement.home(&key, &before);
            if home == Some(NodeId::new(4)) {
                moved += 1;
            } else {
                assert_eq!(RendezvousPlacement.home(&key, &after), home);
            }
        }
        assert!((1_700..2_300).contains(&moved), "{moved} of 10,000 keys were on one of 5 nodes");
        assert_eq!(RendezvousPlacement.home(b"k", &view(0..0)), None);
    }
}
