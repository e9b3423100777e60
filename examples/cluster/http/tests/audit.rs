//! What is written down of requests.

use std::time::Duration;

use serde_json::Value;

use super::client::Client;
use super::cluster::Cluster;
use crate::audit::testing::Disk;
use crate::audit::{Head, VerifyError, keep_heads, verify};

/// Nodes that want tokens and write down what is done, and a client of the first who may do all.
async fn audited(size: usize) -> (Cluster, Client) {
    let (cluster, admin) = Cluster::start_guarded(size, &[]).await;
    let client = cluster.client(0).with_token(admin.reveal());
    (cluster, client)
}

async fn entries(client: &Client, query: &str) -> Vec<Value> {
    let page = client.get(&format!("/v1/audit{query}")).await.json(200);
    page["entries"].as_array().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn every_change_and_every_refusal_has_one_entry_and_nothing_else_has() {
    let (cluster, admin) = audited(1).await;
    let stranger = cluster.client(0).from("10.1.2.3:4567");
    admin.put("/v1/sessions/s", r#"{"ttl_ms":10000}"#).await.json(200);
    admin.post("/v1/locks/a%2Fb/acquire", r#"{"session":"s"}"#).await.json(200);
    admin.get("/v1/locks/a%2Fb").await.json(200);
    admin.post("/v1/locks/a%2Fb/validate", r#"{"fencing_token":1}"#).await;
    let other = r#"{"session":"other"}"#;
    admin.post("/v1/locks/a%2Fb/acquire", other).await.problem(409, "lock_held");
    stranger.get("/v1/status").await.problem(401, "unauthenticated");
    let create = r#"{"role":"reader","name":"evil\u202ename"}"#;
    let token = admin.post("/v1/tokens", create).await.json(201);
    let reader = cluster.client(0).with_token(token["token"].as_str().unwrap());
    reader.put("/v1/cache/k", "v").await.problem(403, "forbidden");
    let entries = entries(&admin, "").await;
    let told: Vec<_> = entries
        .iter()
        .map(|entry| {
            let text = |member: &str| entry[member].as_str().unwrap_or_default().to_owned();
            (text("action"), text("resource"), text("outcome"))
        })
        .collect();
    let expected = [
        ("openSession", "/v1/sessions/s", "done"),
        ("acquireLock", "/v1/locks/a%2Fb/acquire", "done"),
        ("acquireLock", "/v1/locks/a%2Fb/acquire", "lock_held"),
        ("getStatus", "/v1/status", "unauthenticated"),
        ("createToken", "/v1/tokens", "done"),
        ("putValue", "/v1/cache/k", "forbidden"),
    ]
    .map(|(action, resource, outcome)| {
        (action.to_owned(), resource.to_owned(), outcome.to_owned())
    });
    assert_eq!(told, expected);
    assert_eq!(entries[3]["client"], "10.1.2.3:4567");
    assert_eq!(entries[3]["principal"]["name"], "unknown");
    assert_eq!(entries[5]["principal"]["name"], "evil\u{202e}name");
    assert_eq!(entries[5]["principal"]["id"], token["id"]);
    let file = std::fs::read_dir(cluster.audit_folder(0)).unwrap();
    let file = file
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|kind| kind == "jsonl"));
    let text = std::fs::read_to_string(file.unwrap()).unwrap();
    assert!(text.contains("evil\\u202ename") && !text.contains('\u{202e}'));
    assert!(!text.contains(token["token"].as_str().unwrap().rsplit('_').next().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn an_entry_says_where_it_was_done_and_by_what_name_it_is_known_there() {
    let (cluster, admin) = audited(3).await;
    let leader = cluster.leader_of_locks().await;
    let id = [("x-request-id", "mine-1")];
    let asked =
        admin.ask_with(axum::http::Method::PUT, "/v1/sessions/s", &id, r#"{"ttl_ms":9000}"#);
    asked.await.json(200);
    let entry = entries(&admin, "").await.pop().unwrap();
    assert_eq!(
        (entry["node"].as_str(), entry["request_id"].as_str()),
        (Some("n1"), Some("mine-1"))
    );
    assert_eq!(entry["routed_to"], format!("n{}", leader + 1));
    assert_eq!(entries(&admin, "?node=n2").await, Vec::<Value>::new(), "n2 was asked nothing");
    admin.get("/v1/audit?node=n9").await.problem(404, "not_found");
}

#[tokio::test(start_paused = true)]
async fn what_a_batch_names_is_written_down() {
    let (_cluster, admin) = audited(1).await;
    let locks = r#"{"session":"s","locks":[{"lock":"a"},{"lock":"b","mode":"shared"}]}"#;
    admin.post("/v1/locks", locks).await.json(200);
    admin.post("/v1/locks", r#"{"session":"s","locks":[{"lock":7}]}"#).await;
    let entries = entries(&admin, "").await;
    assert_eq!(entries[0]["names"], serde_json::json!(["a", "b"]));
    assert_eq!(entries[1]["outcome"], "invalid_request");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_cut_does_not_replace_what_the_cluster_knows() {
    let (cluster, admin) = audited(1).await;
    for number in 0..5 {
        admin.delete(&format!("/v1/sessions/{number}")).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let known = cluster.control(0).state().heads.iter().next().cloned();
    let folder = cluster.audit_folder(0);
    let file = folder.join("audit-00000000000000000001.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let cut: Vec<_> = text.lines().take(4).collect();
    std::fs::write(&file, cut.join("\n") + "\n").unwrap();
    // The node starts anew, and goes on with what is there.
    let (log, _) = Disk::open(folder, "n1");
    let given_up = keep_heads(log.clone(), cluster.control(0).clone());
    assert!(tokio::time::timeout(Duration::from_secs(9), given_up).await.is_ok(), "it goes on");
    assert_eq!(log.sequence(), 3);
    assert_eq!(cluster.control(0).state().heads.iter().next().cloned(), known);
}

#[tokio::test(start_paused = true)]
async fn a_log_is_read_page_by_page() {
    let (_cluster, admin) = audited(1).await;
    for number in 0..7 {
        admin.delete(&format!("/v1/sessions/{number}")).await;
    }
    let numbers = async |query: &str| {
        let page = admin.get(&format!("/v1/audit{query}")).await.json(200);
        let entries = page["entries"].as_array().unwrap();
        let numbers: Vec<_> =
            entries.iter().filter_map(|entry| entry["sequence"].as_u64()).collect();
        (numbers, page["next"].as_str().map(str::to_owned))
    };
    assert_eq!(numbers("?limit=3").await, (vec![5, 6, 7], None), "the newest");
    assert_eq!(numbers("?limit=3&after=0").await, (vec![1, 2, 3], Some("3".to_owned())));
    assert_eq!(numbers("?limit=3&after=3").await, (vec![4, 5, 6], Some("6".to_owned())));
    assert_eq!(numbers("?limit=3&after=6").await, (vec![7], None));
    assert_eq!(numbers("?after=70").await, (vec![], None));
    for query in ["?limit=0", "?limit=1001", "?limit=x", "?after=-1", "?befroe=1"] {
        admin.get(&format!("/v1/audit{query}")).await.problem(400, "invalid_request");
    }
}

#[tokio::test(start_paused = true)]
async fn changes_are_refused_while_they_cannot_be_written_down_and_reads_are_served() {
    let (cluster, admin) = audited(1).await;
    admin.put("/v1/cache/k", "1").await;
    // The next line does not fit.
    cluster.audit_disk(0).room = Some(10);
    let undecided = admin.put("/v1/cache/k", "2").await.problem(504, "outcome_unknown");
    assert!(undecided["detail"].as_str().unwrap().contains("audit log"), "{undecided}");
    for (method, path, body) in [
        ("PUT", "/v1/cache/k", "3"),
        ("DELETE", "/v1/cache/k", ""),
        ("POST", "/v1/locks/l/acquire", r#"{"session":"s"}"#),
        ("POST", "/v1/queues/t/messages", r#"{"messages":[{"payload":"x"}]}"#),
        ("POST", "/v1/tokens", r#"{"role":"admin","name":"x"}"#),
    ] {
        let refused = admin.ask(method.parse().unwrap(), path, body).await;
        refused.problem(503, "unavailable");
    }
    assert_eq!(admin.get("/v1/cache/k").await.text(), "2", "it was done, or not");
    assert_eq!(admin.get("/v1/locks").await.json(200)["locks"], serde_json::json!([]));
    cluster.client(0).get("/v1/status").await.problem(401, "unauthenticated");
    let metrics = admin.get("/metrics").await;
    assert!(metrics.text().contains("\ndss_audit_writable 0\n"), "{}", metrics.text());
    cluster.audit_disk(0).room = None;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(admin.put("/v1/cache/k", "4").await.status, 204);
    let verified = verify(cluster.audit_folder(0), None, None).unwrap();
    assert!(!verified.is_unfinished);
    let outcomes = entries(&admin, "").await;
    let outcomes: Vec<_> = outcomes.iter().filter_map(|entry| entry["outcome"].as_str()).collect();
    // What was done while nothing could be written is written since.
    assert_eq!(outcomes, ["done", "done", "unauthenticated", "done"]);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_nearly_full_refuses_changes_before_anything_is_lost() {
    let (cluster, admin) = audited(1).await;
    cluster.audit_disk(0).room = Some(1 << 20);
    assert_eq!(admin.put("/v1/cache/k", "1").await.status, 204, "it fits");
    admin.put("/v1/cache/k", "2").await.problem(503, "unavailable");
    assert_eq!(admin.get("/v1/cache/k").await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn the_cluster_knows_how_far_each_log_goes_and_a_cut_one_is_found() {
    let (cluster, admin) = audited(3).await;
    for number in 0..5 {
        admin.delete(&format!("/v1/sessions/{number}")).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let heads: Vec<_> = cluster.control(2).state().heads.iter().cloned().collect();
    assert_eq!(heads.len(), 1);
    assert_eq!(heads[0].sequence, 5);
    let page = admin.get("/v1/audit").await.json(200);
    assert_eq!(page["heads"][0]["sequence"], 5);
    let head = Head { sequence: heads[0].sequence, mac: heads[0].mac };
    let folder = cluster.audit_folder(0);
    assert_eq!(verify(folder, None, Some(head)).unwrap().last, 5);
    let file = folder.join("audit-00000000000000000001.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let cut: Vec<_> = text.lines().take(4).collect();
    std::fs::write(&file, cut.join("\n") + "\n").unwrap();
    let fault = verify(folder, None, Some(head)).unwrap_err();
    assert!(matches!(fault, VerifyError::Fault { line: 5, .. }), "{fault}");
}

#[tokio::test(start_paused = true)]
async fn without_a_log_there_are_no_entries() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    client.put("/v1/cache/k", "1").await;
    let page = client.get("/v1/audit").await.json(200);
    assert_eq!(
        (page["enabled"].as_bool(), &page["entries"]),
        (Some(false), &serde_json::json!([]))
    );
}
