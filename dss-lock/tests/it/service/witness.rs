//! Whether replicas that stand at the same command are the same, however they came there.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dss_raft::NodeId;
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, millis};

/// Remembers what each table looked like, and on which node.
#[derive(Default)]
pub(crate) struct Witness {
    tables: BTreeMap<u64, (NodeId, Bytes)>,
    /// How often a node stood where another had been seen before.
    pub(crate) agreed: usize,
}

impl Witness {
    /// Looks at every node that runs, again and again for so long. Those that are cut off are
    /// looked at too: what they have applied was committed.
    pub(crate) async fn watch(&mut self, cluster: &Cluster, span: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < span {
            for (node, group) in &cluster.groups {
                let looked = group.read_local(|machine| {
                    let table = machine.table();
                    assert_eq!(table.check(), Ok(()));
                    (table.index(), table.snapshot())
                });
                if let Ok((index, table)) = looked.await {
                    self.note(*node, index, &table);
                }
            }
            sleep(millis(50)).await;
        }
    }

    fn note(&mut self, node: NodeId, index: u64, table: &Bytes) {
        let (other, seen) = self.tables.entry(index).or_insert_with(|| (node, table.clone()));
        assert!(seen == table, "{node:?} and {other:?} differ at {index}");
        self.agreed += usize::from(*other != node);
    }
}
