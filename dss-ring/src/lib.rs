//! A consistent hash ring: which node a key belongs to, and which nodes stand in for it.
//!
//! Every node puts many points on a ring of 2⁴⁸ positions, a key falls on one position, and the
//! node of the next point clockwise owns it. When a node comes, it takes about its share of the
//! keys and no other key moves; when it goes, only its keys move.
//!
//! ```text
//!        0          a          b    a       c    b        2⁴⁸ = 0
//!        ├──────────●──────────●────●───────●────●──────────┤
//!                        ▲ key                        ▲ key
//!                        └─────▶ b owns it            └─▶ wraps: a owns it
//!        preference list: b, a, c                a, b, c
//! ```
//!
//! A [`HashRing`] is an immutable value: share it as it is (in an `Arc`, say), and a change builds
//! the next one. It depends on nothing but its nodes and their weights: not on the order in which
//! they were added, not on the process, the platform or the release of this crate. The rule that
//! makes it so is written down [byte by byte](rule).
//!
//! When a ring takes the place of another, [`HashRing::diff`] says which ranges have to be copied
//! from whom to whom; [`BoundedLoads`] passes keys on from nodes that have enough.
//!
//! What it is not: a registry of who is alive, or a mover of data. It says where things belong.
//!
//! ```
//! use dss_ring::{HashRing, RingError, Weight};
//!
//! let heavy = Weight::new(2).expect("not zero");
//! let ring = HashRing::new([("n1", Weight::ONE), ("n2", Weight::ONE), ("n3", heavy)])?;
//!
//! let owner = ring.owner(b"orders/42").expect("the ring has nodes");
//! let replicas: Vec<_> = ring.preference_list(b"orders/42").take(2).collect();
//! assert_eq!(replicas[0], owner);
//! assert_ne!(replicas[1], owner);
//!
//! // Whoever was second takes over from the owner, and nobody else's keys move.
//! let without = ring.without_node(owner)?;
//! assert_eq!(without.owner(b"orders/42"), Some(replicas[1]));
//! # Ok::<(), RingError>(())
//! ```
//!
//! # Balance and cost
//!
//! The more points, the more even the shares, the larger the ring. The share of one node strays
//! from the mean by one in √points, so that of 100 equal nodes the one with the most keys has
//! this many times the mean (in the middle, and in the best 99 of 100 rings; a million keys):
//!
//! | points per weight | median | 99 % | memory per node |
//! | --- | --- | --- | --- |
//! | 100 | 1.26 | 1.41 | 1.2 kB |
//! | 500 | 1.12 | 1.18 | 6 kB |
//! | 1,000 | 1.08 | 1.13 | 12 kB |
//! | 2,000 (the default) | 1.06 | 1.09 | 24 kB |
//!
//! A lookup hashes the key and then reads one entry of an index and one or two adjacent points,
//! whatever the number of nodes. It allocates nothing. A change copies the ring once; only the
//! points of a new node are hashed.
//!
//! # Features
//!
//! `std` (default) changes nothing but what the dependencies use: the crate is `no_std` with
//! `alloc`. `serde` serialises nodes and weights, and rebuilds the points.

#![no_std]

extern crate alloc;

mod bounded;
mod error;
mod met;
mod migration;
mod node;
mod points;
mod preference;
mod range;
mod ring;
pub mod rule;
#[cfg(feature = "serde")]
mod serialize;
mod weight;
mod zones;

pub use bounded::{BoundedLoads, LoadBound};
pub use error::RingError;
pub use migration::{Handover, MigrationPlan};
pub use node::RingNode;
pub use preference::PreferenceList;
pub use range::PositionRange;
pub use ring::{HashRing, NODES_MAX, POINTS_MAX};
pub use rule::Position;
pub use weight::{PointsPerWeight, Weight};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
