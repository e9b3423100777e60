//! The cache of a node and what it stands on.

use std::path::PathBuf;
use std::sync::Arc;

use dss_mesi::{CacheConfig, CacheNode, Incarnation, LeaseConfig, Member, Memory, View};
use tokio::sync::watch;

use super::inbox::CacheTransport;
use crate::cache_group::{
    CacheEvents, CacheGroup, CurrentCache, Leases, Lives, Membership, cache_id, follow_views,
};
use crate::config::{ClusterConfig, NodeConfig};
use crate::members::Members;
use crate::peer::Peers;
use crate::placement::ViewPlacement;

/// The parts of a running cache.
pub(super) struct CacheParts {
    pub(super) caches: Arc<CurrentCache>,
    pub(super) leases: Arc<Leases>,
    pub(super) membership: Membership,
    pub(super) placement: Arc<ViewPlacement>,
    pub(super) view: watch::Receiver<View>,
}

impl CacheParts {
    /// Starts the cache in this life of the node, over the group that tells `events`.
    pub(super) fn start(
        node: &NodeConfig,
        config: &Arc<ClusterConfig>,
        members: &Members,
        group: &CacheGroup,
        (memory, peers): (Arc<dyn Memory>, Peers),
        events: CacheEvents,
        (folder, life): (PathBuf, Incarnation),
    ) -> Self {
        let leases = LeaseConfig::for_election_timeout(config.timing().election_timeout)
            .expect("a cluster's election timeout is long enough for a lease");
        let member = Member { node: cache_id(node.id), incarnation: life };
        let placement = Arc::new(ViewPlacement::new(members.clone()));
        let (transport, placed) = (Arc::new(CacheTransport::new(peers)), placement.clone());
        let start = Box::new(move |member| {
            let (memory, transport) = (memory.clone(), transport.clone());
            CacheNode::start(CacheConfig::default(), member, memory, transport, placed.clone())
        });
        let caches = Arc::new(CurrentCache::new(start(member)));
        let (latest, view) = watch::channel(View::default());
        tokio::spawn(follow_views(events.views, caches.clone(), latest));
        let granter = Leases::start(group.clone(), leases, events.table);
        let membership = Membership::start(
            group.clone(),
            granter.clone(),
            leases,
            member,
            Lives { folder, start },
            caches.clone(),
            view.clone(),
        );
        Self { caches, leases: granter, membership, placement, view }
    }
}
