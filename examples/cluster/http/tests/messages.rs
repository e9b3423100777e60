//! Messages through any node, and past the death of the one that serves them.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::cluster::Cluster;

const QUEUE: &str = "/v1/queues/jobs";

async fn publish(client: &Client, messages: Value) -> Vec<Value> {
    let body = json!({ "messages": messages }).to_string();
    let answer = client.post(&format!("{QUEUE}/messages"), &body).await.json(201);
    answer["ids"].as_array().unwrap().clone()
}

/// Asks the group `workers`.
async fn group(client: &Client, what: &str, body: Value) -> Value {
    client.post(&format!("{QUEUE}/groups/workers/{what}"), &body.to_string()).await.json(200)
}

async fn receive(client: &Client, body: Value) -> Vec<Value> {
    group(client, "receive", body).await["messages"].as_array().unwrap().clone()
}

fn receipts(messages: &[Value]) -> Value {
    json!({"receipts": messages.iter().map(|it| it["receipt"].clone()).collect::<Vec<_>>()})
}

fn payloads(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["payload"].as_str().unwrap()).collect()
}

/// The place of the node that serves the topic.
async fn home(client: &Client) -> usize {
    loop {
        let topic = client.get(QUEUE).await.json(200);
        if let Some(home) = topic["home"].as_str() {
            return home.strip_prefix('n').unwrap().parse::<usize>().unwrap() - 1;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_step_of_a_message_may_go_through_another_node() {
    let cluster = Cluster::start(3).await;
    for place in 0..3 {
        let [one, two, three] = [0, 1, 2].map(|step| cluster.client((place + step) % 3));
        one.put(QUEUE, r#"{"max_attempts":2,"visibility_ms":60000}"#).await.json(200);
        let ids = publish(&two, json!([{"payload": "a"}, {"payload": "b"}])).await;
        let first = receive(&three, json!({"consumer": "c", "max": 10})).await;
        assert_eq!(payloads(&first), ["a", "b"]);
        assert_eq!((&first[0]["id"], &first[1]["id"]), (&ids[0], &ids[1]));
        assert_eq!(group(&one, "extend", receipts(&first)).await["extended"], 2);
        assert_eq!(group(&two, "ack", receipts(&first[..1])).await["acked"], 1);
        assert_eq!(group(&three, "nack", receipts(&first)).await["returned"], 1, "one is done");
        let second = receive(&one, json!({"consumer": "c", "max": 10})).await;
        assert_eq!((payloads(&second), &second[0]["attempt"]), (vec!["b"], &json!(2)));
        assert_eq!(group(&two, "nack", receipts(&second)).await["returned"], 1);

        let dead = three.get(&format!("{QUEUE}/groups/workers/dead")).await.json(200);
        assert_eq!(dead["messages"][0]["id"], ids[1], "it has had its two attempts");
        assert_eq!(group(&one, "dead/redrive", json!({})).await["redriven"], 1);
        let third = receive(&two, json!({"consumer": "c"})).await;
        assert_eq!(group(&three, "ack", receipts(&third)).await["acked"], 1);
        for client in [&one, &two, &three] {
            assert_eq!(client.get(QUEUE).await.json(200)["length"], 0);
            assert_eq!(client.get("/v1/queues").await.json(200)["topics"], json!(["jobs"]));
        }
        assert_eq!(two.delete(QUEUE).await.status, 204);
        three.get(QUEUE).await.problem(404, "not_found");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_at_one_node_gets_what_is_published_at_another() {
    let cluster = Cluster::start(3).await;
    cluster.client(0).put(QUEUE, "{}").await.json(200);
    for place in 0..3 {
        let waiter = cluster.client(place);
        let waits = json!({"consumer": "c", "wait_ms": 3_600_000});
        let waiting = tokio::spawn(async move { receive(&waiter, waits).await });
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!waiting.is_finished());
        publish(&cluster.client((place + 1) % 3), json!([{"payload": "at last"}])).await;
        let messages = waiting.await.unwrap();
        assert_eq!(payloads(&messages), ["at last"]);
        let acked = group(&cluster.client((place + 2) % 3), "ack", receipts(&messages)).await;
        assert_eq!(acked["acked"], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_publish_whose_answer_is_lost_is_made_again_only_where_that_is_safe() {
    let cluster = Cluster::start(3).await;
    cluster.client(0).put(QUEUE, "{}").await.json(200);
    let other = cluster.client((home(&cluster.client(0)).await + 1) % 3);

    cluster.lose_an_answer();
    let ids = publish(&other, json!([{"payload": "a", "dedupe_id": "d"}])).await;
    assert_eq!(other.get(QUEUE).await.json(200)["length"], 1, "stored once");
    let again = publish(&cluster.client(0), json!([{"payload": "a", "dedupe_id": "d"}])).await;
    assert_eq!(again, ids);

    cluster.lose_an_answer();
    let plain = json!({"messages": [{"payload": "b"}]}).to_string();
    let unknown = other.post(&format!("{QUEUE}/messages"), &plain).await;
    unknown.problem(504, "outcome_unknown");
    assert_eq!(other.get(QUEUE).await.json(200)["length"], 2, "it was done");
    // One of several without a dedupe id makes all of them unsafe to repeat.
    cluster.lose_an_answer();
    let mixed = json!({"messages": [{"payload": "c", "dedupe_id": "e"}, {"payload": "d"}]});
    let unknown = other.post(&format!("{QUEUE}/messages"), &mixed.to_string()).await;
    unknown.problem(504, "outcome_unknown");
    assert_eq!(other.get(QUEUE).await.json(200)["length"], 4);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_node_had_delivered_comes_again_from_the_next_with_a_higher_attempt() {
    let cluster = Cluster::start(3).await;
    cluster.client(0).put(QUEUE, r#"{"visibility_ms":30000}"#).await.json(200);
    let home = home(&cluster.client(0)).await;
    let (one, two) = (cluster.client((home + 1) % 3), cluster.client((home + 2) % 3));
    publish(&one, json!([{"payload": "a"}, {"payload": "b"}])).await;
    let first = receive(&two, json!({"consumer": "c", "max": 2})).await;
    assert_eq!(group(&one, "ack", receipts(&first[..1])).await["acked"], 1);
    cluster.kill(home);

    let none = receive(&one, json!({"consumer": "d", "wait_ms": 10_000})).await;
    assert_eq!(none, Vec::<Value>::new(), "the lease outlives the node that gave it");
    let again = receive(&one, json!({"consumer": "d", "max": 10, "wait_ms": 60_000})).await;
    assert_eq!((payloads(&again), &again[0]["attempt"]), (vec!["b"], &json!(2)));
    let late = group(&two, "ack", receipts(&first)).await;
    assert_eq!((&late["acked"], late["stale"].as_array().unwrap().len()), (&json!(0), 2));
    assert_eq!(group(&two, "ack", receipts(&again)).await["acked"], 1);
    assert_eq!(one.get(QUEUE).await.json(200)["length"], 0);
}

#[tokio::test(start_paused = true)]
async fn messages_of_a_key_come_one_after_the_other_whichever_node_is_asked() {
    let cluster = Cluster::start(3).await;
    let keyed = |payload: &str, key: &str| json!({"payload": payload, "key": key});
    let messages = json!([keyed("a1", "a"), keyed("a2", "a"), keyed("b1", "b"), keyed("a3", "a")]);
    publish(&cluster.client(0), messages).await;
    let ten = json!({"consumer": "c", "max": 10});
    let mut came = Vec::new();
    for place in 0..3 {
        let found = receive(&cluster.client(place), ten.clone()).await;
        came.push(payloads(&found).join(" "));
        assert_eq!(receive(&cluster.client((place + 1) % 3), ten.clone()).await, [] as [Value; 0]);
        group(&cluster.client((place + 2) % 3), "ack", receipts(&found)).await;
    }
    assert_eq!(came, ["a1 b1", "a2", "a3"]);
}

#[tokio::test(start_paused = true)]
async fn each_group_sees_every_message_and_a_late_one_begins_at_the_oldest_that_is_kept() {
    let cluster = Cluster::start(3).await;
    publish(&cluster.client(0), json!([{"payload": "a"}, {"payload": "b"}])).await;
    let of_group = async |place: usize, name: &str, max: u64| {
        let path = format!("{QUEUE}/groups/{name}/receive");
        let body = json!({"consumer": "c", "max": max}).to_string();
        let answer = cluster.client(place).post(&path, &body).await.json(200);
        answer["messages"].as_array().unwrap().clone()
    };
    let mine = of_group(1, "workers", 10).await;
    assert_eq!(payloads(&mine), ["a", "b"]);
    assert_eq!(payloads(&of_group(2, "others", 1).await), ["a"]);
    group(&cluster.client(0), "ack", receipts(&mine)).await;
    // The others have not settled either, so that both are kept.
    assert_eq!(payloads(&of_group(0, "late", 10).await), ["a", "b"]);
    let topic = cluster.client(2).get(QUEUE).await.json(200);
    let counts =
        |ready, in_flight| json!({"ready": ready, "in_flight": in_flight, "delayed": 0, "dead": 0});
    let groups = json!({"late": counts(0, 2), "others": counts(1, 1), "workers": counts(0, 0)});
    assert_eq!(topic["groups"], groups);
}

#[tokio::test(start_paused = true)]
async fn delays_retention_and_length_are_kept_to() {
    let cluster = Cluster::start(3).await;
    let (one, two) = (cluster.client(0), cluster.client(1));
    publish(&one, json!([{"payload": "late", "delay_ms": 60_000}, {"payload": "now"}])).await;
    let now = receive(&two, json!({"consumer": "c", "max": 10})).await;
    assert_eq!(payloads(&now), ["now"]);
    group(&one, "ack", receipts(&now)).await;
    let begun = tokio::time::Instant::now();
    let late = receive(&two, json!({"consumer": "c", "wait_ms": 120_000})).await;
    assert_eq!(payloads(&late), ["late"]);
    assert!(begun.elapsed() > Duration::from_secs(50), "{:?}", begun.elapsed());
    group(&one, "ack", receipts(&late)).await;

    let limited = json!({"max_length": 2, "retention_ms": 60_000});
    let set = two.put(QUEUE, &limited.to_string()).await.json(200);
    assert_eq!(
        (&set["settings"]["max_length"], &set["settings"]["retention_ms"]),
        (&json!(2), &json!(60_000))
    );
    publish(&one, json!([{"payload": "a"}, {"payload": "b"}, {"payload": "c"}])).await;
    let kept = receive(&two, json!({"consumer": "c", "max": 10, "visibility_ms": 1})).await;
    assert_eq!(payloads(&kept), ["b", "c"]);
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(receive(&one, json!({"consumer": "c"})).await, [] as [Value; 0]);
    assert_eq!(one.get(QUEUE).await.json(200)["length"], 0);
    let set = one.put(QUEUE, "{}").await.json(200);
    assert_eq!(set["settings"]["max_length"], Value::Null, "what is left out is the default");
}

#[tokio::test(start_paused = true)]
async fn a_topic_itself_refuses_who_had_the_lock_before() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client(0);
    client.put(QUEUE, "{}").await.json(200);
    let granted = client.post("/v1/locks/l/acquire", r#"{"session":"s"}"#).await.json(200);
    let token = granted["fencing_token"].as_u64().unwrap();
    // Somebody with a greater token has published while this holder's answer was under way.
    let fence = dss_queue::Fence { lock: "l".to_owned(), token: token + 1 };
    let place = home(&client).await;
    let topic = dss_queue::TopicName::new("jobs").unwrap();
    let theirs = vec![dss_queue::NewMessage::new("theirs")];
    cluster.queues(place).publish_fenced(&topic, theirs, fence).await.unwrap();
    let body = json!({"messages": [{"payload": "late"}]}).to_string();
    let token = token.to_string();
    for place in 0..3 {
        let held = [("x-dss-lock", "l"), ("x-dss-fencing-token", token.as_str())];
        let client = cluster.client(place);
        let path = format!("{QUEUE}/messages");
        let late = client.ask_with(Method::POST, &path, &held, &body).await;
        late.problem(409, "stale_token");
    }
    let found = receive(&client, json!({"consumer": "c", "max": 10})).await;
    assert_eq!(payloads(&found), ["theirs"]);
}
