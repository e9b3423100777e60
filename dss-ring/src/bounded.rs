//! Consistent hashing with bounded loads.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU64;

use crate::error::RingError;
use crate::node::RingNode;
use crate::ring::HashRing;

/// How many keys a node may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadBound {
    /// This many thousandths above the mean: with 250 no node carries more than 1.25 times its
    /// fair share of the keys there are, rounded up. The smaller, the more even, and the farther
    /// from their owners keys go. There is always room.
    AboveMean {
        /// Thousandths of the mean; any number, 0 for as even as can be.
        permille: u32,
    },
    /// This many keys for each unit of a node's weight, whatever the others carry.
    PerWeight(NonZeroU64),
}

/// Who carries how many keys, and who is to carry the next one: the *consistent hashing with
/// bounded loads* of Mirrokni, Thorup and Zadimoghaddam (SODA 2018, section 2).
///
/// A key goes to the first node of its preference list that has room. A key that was assigned
/// stays where it is until it is released: this keeps counts, and who assigned a key remembers
/// where it went. When the ring changes, only keys of nodes that left have to be assigned anew.
///
/// ```
/// use std::sync::Arc;
/// use dss_ring::{BoundedLoads, HashRing, LoadBound, RingError, Weight};
///
/// let ring = Arc::new(HashRing::new(["n1", "n2", "n3"].map(|node| (node, Weight::ONE)))?);
/// let mut loads = BoundedLoads::new(ring, LoadBound::AboveMean { permille: 250 });
/// for shard in 0..24_u32 {
///     loads.assign(&shard.to_be_bytes())?;
/// }
/// assert!(["n1", "n2", "n3"].iter().all(|node| loads.load(node) <= Some(10)));
/// # Ok::<(), RingError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BoundedLoads<N> {
    ring: Arc<HashRing<N>>,
    bound: LoadBound,
    /// What each node carries.
    loads: Vec<u64>,
    /// The sum of the loads.
    total: u64,
    /// The sum of the weights.
    weights: u64,
}

impl<N: RingNode> BoundedLoads<N> {
    /// Nobody carries anything yet.
    #[must_use]
    pub fn new(ring: Arc<HashRing<N>>, bound: LoadBound) -> Self {
        let weights = ring.nodes().map(|(_, weight)| u64::from(weight.get())).sum();
        Self { bound, loads: vec![0; ring.len()], total: 0, weights, ring }
    }

    /// The node that carries this key from now on: the first of its preference list with room.
    /// Costs a step of the list for every full node before it.
    ///
    /// # Errors
    ///
    /// [`Full`](RingError::Full) where no node has room, or there is none.
    pub fn assign(&mut self, key: &[u8]) -> Result<&N, RingError> {
        let mut candidates = self.ring.preference_walk(key);
        let nodes = self.ring.len();
        let owner = loop {
            let owner = usize::from(candidates.next(nodes).ok_or(RingError::Full)?);
            if self.loads[owner] < self.capacity_at(owner, self.total + 1) {
                break owner;
            }
        };
        self.loads[owner] += 1;
        self.total += 1;
        Ok(&self.ring.members()[owner].node)
    }

    /// One key less on this node.
    ///
    /// # Errors
    ///
    /// [`UnknownNode`](RingError::UnknownNode) where it is not on the ring, or carries nothing.
    pub fn release(&mut self, node: &N) -> Result<(), RingError> {
        let at = self.ring.find_member(node).map_err(|_| RingError::UnknownNode)?;
        self.loads[at] = self.loads[at].checked_sub(1).ok_or(RingError::UnknownNode)?;
        self.total -= 1;
        Ok(())
    }

    /// Goes on with another ring: nodes that are on both keep what they carry, and what the others
    /// carried has to be [assigned](Self::assign) anew. A node may then carry more than it should,
    /// since nothing is moved that need not be; it gets no more until it has room.
    pub fn change_ring(&mut self, ring: Arc<HashRing<N>>) {
        let mut next = Self::new(ring, self.bound);
        for (member, load) in self.ring.members().iter().zip(&self.loads) {
            if let Ok(at) = next.ring.find_member(&member.node) {
                next.loads[at] = *load;
                next.total += load;
            }
        }
        *self = next;
    }

    /// How many keys this node carries; `None` where it is not on the ring.
    #[must_use]
    pub fn load(&self, node: &N) -> Option<u64> {
        self.ring.find_member(node).ok().map(|at| self.loads[at])
    }

    /// How many keys this node may carry at present; `None` where it is not on the ring.
    #[must_use]
    pub fn capacity(&self, node: &N) -> Option<u64> {
        self.ring.find_member(node).ok().map(|at| self.capacity_at(at, self.total))
    }

    /// How many keys are carried in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The ring that they are on.
    #[must_use]
    pub fn ring(&self) -> &Arc<HashRing<N>> {
        &self.ring
    }

    /// What the node at this place may carry when there are `total` keys.
    fn capacity_at(&self, at: usize, total: u64) -> u64 {
        let weight = self.ring.members()[at].weight.get();
        match self.bound {
            LoadBound::PerWeight(keys) => keys.get().saturating_mul(u64::from(weight)),
            LoadBound::AboveMean { permille } => {
                let keys = u128::from(total) * u128::from(weight) * (1_000 + u128::from(permille));
                let capacity = keys.div_ceil(u128::from(self.weights) * 1_000);
                u64::try_from(capacity).unwrap_or(u64::MAX)
            }
        }
    }
}
