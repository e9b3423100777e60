//! What every main memory must do, as a test that any implementation can be put to.

use bytes::Bytes;

use crate::ports::{Memory, MemoryError, StoreOutcome, Stored};
use crate::version::Version;
use crate::view::Epoch;

/// Puts `memory` to the test; it must be new: empty, with no fence.
///
/// For the tests of implementations. Keys begin with `conformance/`.
///
/// # Panics
///
/// Where `memory` does anything but what [`Memory`] says.
pub async fn memory_conformance(memory: &dyn Memory) {
    versions_are_ordered(memory).await;
    tombstones_are_versions(memory).await;
    any_bytes_are_kept(memory).await;
    fences_hold(memory).await;
}

fn version(epoch: u64, grant: u64, write: u64) -> Version {
    Version { epoch: Epoch::new(epoch), grant, write }
}

fn text(value: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(value.as_bytes()))
}

async fn store(memory: &dyn Memory, key: &str, at: Version, value: Option<Bytes>) -> StoreOutcome {
    let key = Bytes::from(format!("conformance/{key}"));
    memory.store(Epoch::new(1), &key, at, value).await.expect("memory is there")
}

async fn load(memory: &dyn Memory, key: &str) -> Option<Stored> {
    let key = Bytes::from(format!("conformance/{key}"));
    memory.load(&key).await.expect("memory is there")
}

async fn versions_are_ordered(memory: &dyn Memory) {
    assert_eq!(load(memory, "order").await, None, "a key that was never written");
    // Each is larger than the one before it, and not as text: 9 < 10, 255 < 256, 2^32, 2^63.
    let rising = [
        version(1, 1, 1),
        version(1, 1, 9),
        version(1, 1, 10),
        version(1, 9, 1),
        version(1, 10, 1),
        version(1, 255, 300),
        version(1, 256, 1),
        version(1, 1 << 32, 1),
        version(2, 1, 1),
        version(10, 1, 1),
        version(10, 1 << 63, u64::MAX),
    ];
    let mut newest: Option<Version> = None;
    for at in rising {
        let value = Some(Bytes::from(at.etag()));
        assert_eq!(store(memory, "order", at, value.clone()).await, StoreOutcome::Stored, "{at}");
        assert_eq!(load(memory, "order").await, Some(Stored { version: at, value }), "{at}");
        if let Some(older) = newest {
            let outcome = store(memory, "order", older, text("late")).await;
            assert_eq!(outcome, StoreOutcome::Stale { newest: at }, "{older} after {at}");
        }
        newest = Some(at);
    }
    for older in &rising[..rising.len() - 1] {
        let outcome = store(memory, "order", *older, text("late")).await;
        assert!(matches!(outcome, StoreOutcome::Stale { .. }), "{older} after all");
    }
    let last = rising[rising.len() - 1];
    let kept = Some(Bytes::from(last.etag()));
    let outcome = store(memory, "order", last, kept.clone()).await;
    assert_eq!(outcome, StoreOutcome::Stored, "the same write again");
    assert_eq!(load(memory, "order").await, Some(Stored { version: last, value: kept }));
}

async fn tombstones_are_versions(memory: &dyn Memory) {
    assert_eq!(store(memory, "gone", version(1, 1, 1), text("x")).await, StoreOutcome::Stored);
    assert_eq!(store(memory, "gone", version(1, 3, 1), None).await, StoreOutcome::Stored);
    let tombstone = Some(Stored { version: version(1, 3, 1), value: None });
    assert_eq!(load(memory, "gone").await, tombstone);
    let late = store(memory, "gone", version(1, 2, 1), text("back")).await;
    assert_eq!(late, StoreOutcome::Stale { newest: version(1, 3, 1) });
    assert_eq!(load(memory, "gone").await, tombstone, "a late write must not bring it back");
    assert_eq!(store(memory, "gone", version(1, 4, 1), text("new")).await, StoreOutcome::Stored);
    assert_eq!(load(memory, "gone").await.and_then(|stored| stored.value), text("new"));
}

async fn any_bytes_are_kept(memory: &dyn Memory) {
    let all: Bytes = (0..=255).collect();
    let key = [b"conformance/", &all[..]].concat().into();
    let outcome = memory.store(Epoch::new(1), &key, version(1, 1, 1), Some(all.clone())).await;
    assert_eq!(outcome.expect("memory is there"), StoreOutcome::Stored);
    let stored = memory.load(&key).await.expect("memory is there").expect("it was stored");
    assert_eq!(stored.value, Some(all));
    // The empty value is a value, not a tombstone.
    let empty = Some(Bytes::new());
    assert_eq!(store(memory, "empty", version(1, 1, 1), empty.clone()).await, StoreOutcome::Stored);
    assert_eq!(load(memory, "empty").await.expect("it was stored").value, empty);
}

async fn fences_hold(memory: &dyn Memory) {
    memory.fence(Epoch::new(20)).await.expect("a fence can be raised");
    memory.fence(Epoch::new(20)).await.expect("raising it to where it is changes nothing");
    let lower = memory.fence(Epoch::new(19)).await;
    assert!(
        matches!(lower, Err(MemoryError::Fenced { fence }) if fence == Epoch::new(20)),
        "a fence is never lowered"
    );
    let late = store(memory, "fenced", version(50, 1, 1), text("late")).await;
    assert_eq!(late, StoreOutcome::Fenced { fence: Epoch::new(20) }, "whatever its version");
    assert_eq!(load(memory, "fenced").await, None);
    let key = Bytes::from_static(b"conformance/fenced");
    for writer in [20, 21] {
        let at = version(3, 1, writer);
        let outcome = memory.store(Epoch::new(writer), &key, at, text("on time")).await;
        assert_eq!(outcome.expect("memory is there"), StoreOutcome::Stored, "by {writer}");
    }
    assert_eq!(load(memory, "fenced").await.expect("stored").version, version(3, 1, 21));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_memory_in_memory_conforms() {
        memory_conformance(&crate::InMemoryMemory::new()).await;
    }
}
