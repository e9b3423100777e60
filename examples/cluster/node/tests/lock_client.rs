//! The client of the locks that programs use, beside a node.

use dss_lock::{
    AcquireAllRequest, AcquireError, LockName, Locks as _, Mode, OwnerId, ReleaseRequest,
    SessionId, Wait,
};

use super::*;
use crate::client::{Client, Encryption, HttpLocks};

fn lock(name: &str) -> LockName {
    LockName::new(name).unwrap()
}

fn all(session: &str, locks: &[(&str, Mode)], wait: Wait) -> AcquireAllRequest {
    AcquireAllRequest {
        locks: locks.iter().map(|(name, mode)| (lock(name), *mode)).collect(),
        session: SessionId::new(session).unwrap(),
        owner: OwnerId::default(),
        wait,
        ttl: Some(Duration::from_secs(600)),
        request_id: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_locks_are_taken_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = start(bind(1, folder.path()).await).await;
    let address = &nodes[0].app.config.node("n1").unwrap().client;
    let locks = HttpLocks::new(
        Client::new(&Encryption::default()),
        vec![format!("http://{address}").parse().unwrap()],
    );
    let two = [("b/1", Mode::Exclusive), ("a", Mode::Shared)];

    let grants = locks.acquire_all(all("me", &two, Wait::Try)).await.unwrap();
    let granted: Vec<_> = grants.iter().map(|grant| (grant.lock.as_str(), grant.mode)).collect();
    assert_eq!(granted, [("a", Mode::Shared), ("b/1", Mode::Exclusive)]);
    assert!(grants.iter().all(|grant| grant.session.as_str() == "me"));

    let more = [("b/1", Mode::Exclusive), ("c", Mode::Exclusive)];
    let refused = locks.acquire_all(all("me", &more, Wait::Try)).await.unwrap_err();
    assert_eq!(refused, AcquireError::AlreadyHolds { lock: lock("b/1") });
    let refused = locks.acquire_all(all("other", &two, Wait::Try)).await.unwrap_err();
    assert!(matches!(refused, AcquireError::Held { .. }), "{refused:?}");
    let short = Wait::For(Duration::from_millis(50));
    let refused = locks.acquire_all(all("other", &two, short)).await.unwrap_err();
    assert_eq!(refused, AcquireError::TimedOut);

    let waits = locks.acquire_all(all("other", &two, Wait::Forever));
    let gives_back = async {
        let release = ReleaseRequest {
            lock: lock("b/1"),
            session: SessionId::new("me").unwrap(),
            owner: OwnerId::default(),
            token: Some(grants[1].token),
        };
        locks.release(release).await
    };
    let (granted, released) = tokio::join!(waits, gives_back);
    released.unwrap();
    let granted = granted.unwrap();
    assert!(granted.iter().all(|grant| grant.token > grants[1].token), "{granted:?}");
    for node in nodes {
        node.shutdown().await;
    }
}
