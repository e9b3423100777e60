//! How much memory a held line takes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dss_mesi::{
    Body, Cache, Epoch, Incarnation, Member, Message, NodeId, OperationId, Output, Payload,
    Timestamp, Version, View,
};

use crate::cluster::{capacity, key};

const LINES: u32 = 1_000_000;

/// How many bytes of memory this process takes, from `/proc`.
fn resident() -> Option<u64> {
    let statistics = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statistics.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4_096)
}

/// Fills a cache core with lines of a key of 16 bytes and a value of 64, as grants of a home on
/// another node would, reads each once more, and shows what that takes beside the bytes themselves,
/// all that the allocator adds included.
pub(crate) fn show() {
    let Some(before) = resident() else { return };
    let cache = filled();
    let Some(after) = resident() else { return };
    let each = (after - before) / u64::from(LINES);
    let beside = each.saturating_sub(16 + 64);
    println!("memory of a held line: {each} bytes, {beside} beside key and value");
    assert_eq!(cache.statistics().shared, usize::try_from(LINES).expect("lines fit"));
}

fn filled() -> Cache {
    let member = |node| Member { node: NodeId::new(node), incarnation: Incarnation::new(1) };
    let view = View { epoch: Epoch::new(1), members: vec![member(1), member(2)] };
    let entries = usize::try_from(LINES).expect("lines fit");
    // The home of all is the other node.
    let placement = Arc::new(Other);
    let mut cache = Cache::new(capacity(entries), member(1), placement);
    let mut now = Timestamp::ZERO;
    cache.handle_lease(now, Timestamp::since_origin(Duration::from_secs(1 << 30)));
    cache.handle_view(now, view);
    for number in 0..LINES {
        let id = OperationId::new(u64::from(number));
        cache.read(now, id, key(number));
        while let Some(output) = cache.poll_output(now) {
            let Output::Send { message: Message { epoch, body }, .. } = output else { continue };
            let Body::Get { key, request, .. } = body else { continue };
            let version = Version { epoch, grant: 1, write: 1 };
            let body = Body::Grant {
                key,
                request,
                seq: dss_mesi::Seq { epoch, count: 2 },
                exclusive: false,
                version: Some(version),
                payload: Payload::Value(Some(Bytes::from_static(&[7; 64]))),
            };
            cache.handle_message(now, NodeId::new(2), Message { epoch, body });
        }
        // So that timers of what is long answered go, as they do in a node.
        now = now + Duration::from_millis(1);
        cache.handle_timeout(now);
        while cache.poll_output(now).is_some() {}
    }
    cache
}

#[derive(Debug)]
struct Other;

impl dss_mesi::Placement for Other {
    fn home(&self, _: &[u8], _: &View) -> Option<NodeId> {
        Some(NodeId::new(2))
    }
}
