//! The load generator against a cluster.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::process::{Cluster, program};

async fn load(cluster: &Cluster, arguments: &[&str]) -> Value {
    let targets = [0, 1, 2].map(|node| cluster.url(node)).join(",");
    let mut command = Command::new(program());
    command.args(["load", "--json", "--target", &targets]).args(arguments);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("waiting does not panic").expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_workload_is_measured() {
    let cluster = Cluster::start(&[]).await;
    let closed = load(&cluster, &["--workload", "mixed", "--clients", "6", "--seconds", "2"]).await;
    for operation in ["acquire", "release", "publish", "receive", "ack", "get", "put"] {
        let measured = &closed["operations"][operation];
        let figure = |name: &str| measured[name].as_f64().expect("a number");
        assert!(figure("done") > 0.0, "{operation}: {closed}");
        assert!(figure("p50_ms") <= figure("p99_ms"), "{operation}: {closed}");
        assert!(figure("p99_ms") <= figure("max_ms"), "{operation}: {closed}");
    }
    assert_eq!((&closed["rate"], &closed["missed"]), (&Value::Null, &0.into()));

    // Reads take no commit: 40 in a second are few enough for the slowest machine.
    let open = ["--workload", "cache", "--clients", "20", "--seconds", "2", "--rate", "40"];
    let open = load(&cluster, &open).await;
    let begun = 80 - open["missed"].as_u64().expect("a number");
    let ended = open["done"].as_u64().expect("a number") + open["failed"].as_u64().expect("one");
    assert_eq!((begun, &open["rate"]), (ended, &40.into()), "{open}");
}
