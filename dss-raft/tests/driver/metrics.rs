use std::time::Duration;

use tokio::time::sleep;

use crate::cluster::{Cluster, command, id};

#[tokio::test(start_paused = true)]
async fn what_a_group_does_is_counted() {
    let cluster = Cluster::start(3).await;
    cluster.add(1).await;
    cluster.add(2).await;
    let leader = cluster.leader().await;
    let other = if leader == id(1) { id(2) } else { id(1) };
    let _ = cluster.groups[&other].propose(command(3)).await;
    cluster.groups[&leader].read(|_| ()).await.expect("it leads");
    cluster.converged(&[1, 2]).await;
    let before = cluster.groups[&leader].metrics();
    assert_eq!((before.proposals, before.reads), (2, 1));
    assert!(before.entries_applied >= 3, "the blank entry is one");
    assert!(before.entries_written >= 3 && before.writes >= 3);
    assert_eq!(cluster.groups[&other].metrics().proposals_refused, 1);
    assert_eq!(cluster.groups[&other].metrics().entries_applied, before.entries_applied);

    // An idle leader sends a heartbeat to each of two others every 100 ms, is answered, and
    // writes nothing.
    sleep(Duration::from_secs(10)).await;
    let after = cluster.groups[&leader].metrics();
    let sent = after.messages_sent - before.messages_sent;
    let received = after.messages_received - before.messages_received;
    assert!((198..=210).contains(&sent), "{sent} messages");
    assert!((198..=210).contains(&received), "{received} messages");
    assert_eq!((after.writes, after.proposals, after.reads), (before.writes, 2, 1));
}
