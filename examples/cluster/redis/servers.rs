//! The Redis servers of a cluster, and what is kept on which of them.

use std::sync::Arc;

use dss_ring::{HashRing, Weight};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::address::RedisAddress;
use super::node::RedisNode;

/// What a cluster's name may not contain where it is part of a key.
const IN_KEYS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// What every key of this cluster begins with: no other cluster's keys do.
pub(crate) fn key_prefix(cluster: &str) -> String {
    format!("dss:{}:", utf8_percent_encode(cluster, IN_KEYS))
}

/// The Redis servers of a cluster.
#[derive(Clone)]
pub(crate) struct RedisNodes {
    nodes: Arc<[Arc<RedisNode>]>,
    /// By index into `nodes` after their names have decided.
    ring: Arc<HashRing<String>>,
}

impl RedisNodes {
    /// Begins to look after these servers, inside a tokio runtime; none of them need be there.
    /// Their names are different.
    pub(crate) fn start(addresses: Vec<RedisAddress>) -> Self {
        let names = addresses.iter().map(|address| (address.name().to_owned(), Weight::ONE));
        let ring = HashRing::new(names)
            .expect("names of Redis servers are unique and far fewer than a ring can hold");
        let nodes = addresses.into_iter().map(RedisNode::start).collect();
        Self { nodes, ring: Arc::new(ring) }
    }

    /// All of them, in the order of the configuration.
    pub(crate) fn all(&self) -> &[Arc<RedisNode>] {
        &self.nodes
    }

    /// The server of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<RedisNode>> {
        self.nodes.iter().find(|node| node.name() == name)
    }

    /// The ring over the servers' names, the same on every node of the cluster.
    pub(crate) fn ring(&self) -> &HashRing<String> {
        &self.ring
    }

    /// The server that keeps what is placed under `key`.
    pub(crate) fn owner(&self, key: &[u8]) -> &Arc<RedisNode> {
        let name = self.ring.owner(key).expect("there is at least one server");
        self.get(name).expect("the ring holds the names of these servers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cluster_has_keys_that_begin_like_those_of_another() {
        assert_eq!(key_prefix("local"), "dss:local:");
        assert_eq!(key_prefix("a:b"), "dss:a%3Ab:");
        assert_eq!(key_prefix("ä {x}%"), "dss:%C3%A4%20%7Bx%7D%25:");
    }

    #[tokio::test]
    async fn every_server_keeps_a_share_that_its_name_decides() {
        let addresses = |ports: [u16; 3]| {
            ports.map(|port| RedisAddress::parse(&format!("redis://127.0.0.1:{port}")).unwrap())
        };
        let servers = RedisNodes::start(addresses([1, 2, 3]).to_vec());
        let reordered = RedisNodes::start(addresses([3, 1, 2]).to_vec());
        let mut shares = [0; 3];
        for number in 0..300 {
            let key = format!("key-{number}");
            let owner = servers.owner(key.as_bytes()).name();
            assert_eq!(owner, reordered.owner(key.as_bytes()).name());
            let place = servers.all().iter().position(|node| node.name() == owner).unwrap();
            shares[place] += 1;
        }
        assert!(shares.iter().all(|share| *share > 30), "{shares:?}");
    }
}
