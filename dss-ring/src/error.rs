//! What a ring refuses.

/// Why a ring could not be built or changed. The ring that a change was asked of stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// A node with these bytes is on the ring already. To change its weight, use
    /// [`HashRing::with_weight`](crate::HashRing::with_weight).
    #[error("the node is on the ring already")]
    DuplicateNode,
    /// No node with these bytes is on the ring.
    #[error("the node is not on the ring")]
    UnknownNode,
    /// More than [`NODES_MAX`](crate::NODES_MAX) nodes.
    #[error("a ring has at most {} nodes", crate::NODES_MAX)]
    TooManyNodes,
    /// The weights add up to more than [`POINTS_MAX`](crate::POINTS_MAX) points.
    #[error("a ring has at most {} points", crate::POINTS_MAX)]
    TooManyPoints,
    /// Every node carries as much as its [`LoadBound`](crate::LoadBound) allows.
    #[error("no node of the ring has room for another key")]
    Full,
}
