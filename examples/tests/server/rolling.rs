//! All nodes are restarted one after the other, and clients that try again notice nothing.

use std::time::Duration;

use tokio::time::sleep;

use crate::process::Cluster;
use crate::retrying::Crowd;

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_request_of_a_client_that_tries_again_and_loses_nothing() {
    let mut cluster = Cluster::start_alone(&[]).await;
    let crowd = Crowd::start(&cluster);
    for node in 0..3 {
        sleep(Duration::from_millis(500)).await;
        let status = cluster.terminate(node).await;
        assert!(status.success(), "{status}\n{}", cluster.logs());
        cluster.spawn(node);
        cluster.ready().await;
    }
    sleep(Duration::from_millis(500)).await;
    crowd.finish(&cluster, 0).await;
}
