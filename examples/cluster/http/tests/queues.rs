//! Topics and messages.

use serde_json::{Value, json};

use super::client::Client;
use super::cluster::Cluster;

const RECEIVE: &str = "/v1/queues/jobs/groups/workers/receive";
const ACK: &str = "/v1/queues/jobs/groups/workers/ack";

async fn publish(client: &Client, messages: Value) -> Vec<String> {
    let body = json!({ "messages": messages }).to_string();
    let answer = client.post("/v1/queues/jobs/messages", &body).await.json(201);
    let ids = answer["ids"].as_array().unwrap();
    ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

async fn receive(client: &Client, body: Value) -> Vec<Value> {
    let answer = client.post(RECEIVE, &body.to_string()).await.json(200);
    answer["messages"].as_array().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_message_is_published_received_and_acknowledged_once() {
    let client = Cluster::start(1).await.client(0);
    let message = json!({"payload": "grüße", "key": "k", "headers": {"a": "b"}});
    let ids = publish(&client, json!([message, {"payload_base64": "/wA="}])).await;
    assert_eq!(ids.len(), 2);

    let messages = receive(&client, json!({"consumer": "c", "max": 10})).await;
    let [text, bytes] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(text["id"], ids[0].as_str());
    assert_eq!(text["payload"], "grüße");
    assert!(text.get("payload_base64").is_none());
    assert_eq!((&text["key"], &text["headers"]), (&json!("k"), &json!({"a": "b"})));
    assert_eq!(text["attempt"], 1);
    let produced_at: jiff::Timestamp = text["produced_at"].as_str().unwrap().parse().unwrap();
    assert!(produced_at.as_second() > 1_600_000_000);
    assert_eq!(bytes["payload_base64"], "/wA=");
    assert!(bytes.get("payload").is_none());
    assert_eq!((&bytes["key"], &bytes["headers"]), (&Value::Null, &json!({})));

    let receipts = json!({"receipts": [text["receipt"], bytes["receipt"]]}).to_string();
    let acked = client.post(ACK, &receipts).await.json(200);
    assert_eq!(acked, json!({"acked": 2, "stale": []}));
    let again = client.post(ACK, &receipts).await.json(200);
    assert_eq!(again["acked"], 0);
    assert_eq!(again["stale"].as_array().unwrap().len(), 2);
    assert_eq!(receive(&client, json!({"consumer": "c"})).await, Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn a_foreign_receipt_is_stale_and_disturbs_nobody() {
    let client = Cluster::start(1).await.client(0);
    publish(&client, json!([{"payload": "a"}])).await;
    let delivered = receive(&client, json!({"consumer": "c"})).await;
    let receipt = delivered[0]["receipt"].as_str().unwrap();
    let strange = json!({"receipts": ["", "no receipt", "00000001-42-1-7"]}).to_string();
    let answer = client.post(ACK, &strange).await.json(200);
    assert_eq!(answer["acked"], 0);
    assert_eq!(answer["stale"].as_array().unwrap().len(), 3);

    let other = "/v1/queues/jobs/groups/others";
    client.post(&format!("{other}/receive"), r#"{"consumer":"x"}"#).await.json(200);
    let theirs = json!({"receipts": [receipt]}).to_string();
    let answer = client.post(&format!("{other}/ack"), &theirs).await.json(200);
    assert_eq!(answer, json!({"acked": 0, "stale": [receipt]}));
    assert_eq!(client.post(ACK, &theirs).await.json(200)["acked"], 1);
}

#[tokio::test(start_paused = true)]
async fn messages_are_returned_extended_given_up_and_redriven() {
    let client = Cluster::start(1).await.client(0);
    let set = client.put("/v1/queues/jobs", r#"{"max_attempts":1}"#).await.json(200);
    let settings = json!({"visibility_ms": 30_000, "max_attempts": 1, "retention_ms": null, "max_length": null});
    assert_eq!(set, json!({"topic": "jobs", "settings": settings}));
    publish(&client, json!([{"payload": "a"}])).await;
    let delivered = receive(&client, json!({"consumer": "c"})).await;
    let receipts = json!({"receipts": [delivered[0]["receipt"]]}).to_string();

    let groups = "/v1/queues/jobs/groups/workers";
    let extended = client.post(&format!("{groups}/extend"), &receipts).await.json(200);
    assert_eq!(extended, json!({"extended": 1, "stale": []}));
    let returned = client.post(&format!("{groups}/nack"), &receipts).await.json(200);
    assert_eq!(returned, json!({"returned": 1, "stale": []}));

    assert_eq!(receive(&client, json!({"consumer": "c"})).await, Vec::<Value>::new());
    let dead = client.get(&format!("{groups}/dead")).await.json(200);
    let [letter] = &dead["messages"].as_array().unwrap()[..] else { panic!("{dead}") };
    assert_eq!((&letter["payload"], &letter["attempts"]), (&json!("a"), &json!(1)));
    assert_eq!((&letter["reason"], &letter["consumer"]), (&json!("rejected"), &json!("c")));
    let redriven = client.post(&format!("{groups}/dead/redrive"), "").await.json(200);
    assert_eq!(redriven, json!({"redriven": 1}));
    assert_eq!(receive(&client, json!({"consumer": "c"})).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_shown_listed_and_deleted() {
    let client = Cluster::start(1).await.client(0);
    publish(
        &client,
        json!([{"payload": "a"}, {"payload": "b"}, {"payload": "c", "delay_ms": 60_000}]),
    )
    .await;
    receive(&client, json!({"consumer": "c"})).await;
    let topic = client.get("/v1/queues/jobs").await.json(200);
    assert_eq!(
        (&topic["topic"], &topic["shard"], &topic["home"]),
        (&json!("jobs"), &json!("shard-0"), &json!("n1"))
    );
    assert_eq!(topic["length"], 3);
    assert_eq!(topic["settings"]["max_attempts"], 5);
    assert_eq!(
        topic["groups"],
        json!({"workers": {"ready": 1, "in_flight": 1, "delayed": 1, "dead": 0}})
    );
    client.put("/v1/queues/a%2Fb", "").await.json(200);
    assert_eq!(client.get("/v1/queues").await.json(200), json!({"topics": ["a/b", "jobs"]}));
    assert_eq!(client.delete("/v1/queues/jobs").await.status, 204);
    client.get("/v1/queues/jobs").await.problem(404, "not_found");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_is_not_found() {
    let client = Cluster::start(1).await.client(0);
    client.get("/v1/queues/jobs").await.problem(404, "not_found");
    client.delete("/v1/queues/jobs").await.problem(404, "not_found");
    client.post(RECEIVE, r#"{"consumer":"c"}"#).await.problem(404, "not_found");
    client.post(ACK, r#"{"receipts":[]}"#).await.problem(404, "not_found");
    client.get("/v1/queues/jobs/groups/workers/dead").await.problem(404, "not_found");
}

#[tokio::test(start_paused = true)]
async fn the_same_dedupe_id_is_stored_once() {
    let client = Cluster::start(1).await.client(0);
    let first = publish(&client, json!([{"payload": "a", "dedupe_id": "d"}])).await;
    assert_eq!(publish(&client, json!([{"payload": "a", "dedupe_id": "d"}])).await, first);
    assert_eq!(client.get("/v1/queues/jobs").await.json(200)["length"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_receive_waits_for_a_message() {
    let client = Cluster::start(1).await.client(0);
    client.put("/v1/queues/jobs", "{}").await.json(200);
    let waiter = client.clone();
    let waiting = tokio::spawn(async move {
        receive(&waiter, json!({"consumer": "c", "wait_ms": 3_600_000})).await
    });
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(!waiting.is_finished());
    publish(&client, json!([{"payload": "at last"}])).await;
    assert_eq!(waiting.await.unwrap()[0]["payload"], "at last");
}

#[tokio::test(start_paused = true)]
async fn a_listing_of_dead_letters_is_bounded() {
    let client = Cluster::start(1).await.client(0);
    client.put("/v1/queues/jobs", r#"{"max_attempts":1}"#).await.json(200);
    for _ in 0..6 {
        publish(&client, json!([{"payload": "x".repeat(1_000_000)}])).await;
        let delivered = receive(&client, json!({"consumer": "c"})).await;
        let receipts = json!({"receipts": [delivered[0]["receipt"]]}).to_string();
        client.post("/v1/queues/jobs/groups/workers/nack", &receipts).await.json(200);
    }
    assert_eq!(receive(&client, json!({"consumer": "c"})).await, Vec::<Value>::new());
    let dead = client.get("/v1/queues/jobs/groups/workers/dead").await.json(200);
    assert_eq!(dead["messages"].as_array().unwrap().len(), 4);
}
