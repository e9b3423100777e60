//! What bad input gets.

use axum::body::Body;
use axum::http::{Method, Request};

use super::cluster::Cluster;
use crate::http::table;

/// The path of a route with something in the place of its parameters.
fn example(path: &str) -> String {
    let segments = path
        .split('/')
        .map(|segment| if segment.starts_with('{') { "orders%2F42" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

#[tokio::test(start_paused = true)]
async fn unknown_paths_are_not_found() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    for path in ["/v1", "/v2/locks", "/v1/locks/a/b", "/v1/cache/a/b/c", "/v1/locks/a/Acquire"] {
        let answer = client.ask(Method::GET, path, "").await;
        answer.problem(404, "not_found");
    }
}

#[tokio::test(start_paused = true)]
async fn empty_names_are_invalid_requests() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    for (method, path) in [
        (Method::POST, "/v1/locks//acquire"),
        (Method::GET, "/v1/locks/"),
        (Method::GET, "/v1/cache//line"),
        (Method::PUT, "/v1/cache/"),
        (Method::PUT, "/v1/sessions/"),
        (Method::POST, "/v1/queues/t/groups//receive"),
        (Method::POST, "/v1/queues//groups/g/ack"),
    ] {
        client.ask(method, path, "{}").await.problem(400, "invalid_request");
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_methods_say_which_there_are() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    for (method, path, allowed) in [
        (Method::POST, "/healthz", "GET,HEAD"),
        (Method::PUT, "/v1/locks/a/acquire", "POST"),
        (Method::PATCH, "/v1/cache/a", "GET,HEAD,PUT,DELETE"),
        (Method::OPTIONS, "/v1/queues", "GET,HEAD"),
    ] {
        let answer = client.ask(method, path, "").await;
        answer.problem(405, "invalid_request");
        assert_eq!(answer.header("allow"), allowed, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn names_that_are_none_are_refused_on_every_route() {
    let client = Cluster::start_with_admin().await;
    let long = "a".repeat(513);
    for route in table().iter().filter(|route| route.path.contains('{')) {
        for name in [long.as_str(), "%00", "a%0A", "%7F", "%C2%80", "%FF", "%C3%28"] {
            let path = example(route.path).replacen("orders%2F42", name, 1);
            let answer = client.ask(route.method.clone(), &path, "").await;
            answer.problem(400, "invalid_request");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_not_the_expected_json_are_refused_on_every_route() {
    let client = Cluster::start_with_admin().await;
    let deep = "[".repeat(200_000);
    let bodies =
        ["{", "null", "[]", "7", "\"x\"", "{}{}", r#"{"frobnicate":1}"#, "\u{feff}{}", &deep];
    for route in takes_json() {
        let path = example(route.path);
        for body in bodies {
            let answer = client.ask(route.method.clone(), &path, body).await;
            answer.problem(400, "invalid_request");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn other_media_types_are_refused_on_every_route_that_takes_json() {
    let client = Cluster::start_with_admin().await;
    for route in takes_json() {
        for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/xml"] {
            let request = Request::builder()
                .method(route.method.clone())
                .uri(example(route.path))
                .header("content-type", media_type)
                .body(Body::from("{}"));
            let answer = client.send(request.unwrap()).await;
            answer.problem(415, "unsupported_media_type");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_too_large_are_refused_on_every_route() {
    let client = Cluster::start_with_admin().await;
    let body = "x".repeat(10 << 20);
    for route in table() {
        let answer = client.ask(route.method.clone(), &example(route.path), &body).await;
        answer.problem(413, "payload_too_large");
    }
}

/// Bodies that each have one member out of its range, by method and path.
const OUT_OF_RANGE: [(Method, &str, &[&str]); 10] = [
    (
        Method::POST,
        "/v1/locks",
        &[
            "{}",
            r#"{"session":"s","locks":[]}"#,
            r#"{"session":"s","locks":["a"]}"#,
            r#"{"session":"s","locks":[{"lock":""}]}"#,
            r#"{"session":"s","locks":[{"lock":"a\u0000"}]}"#,
            r#"{"session":"s","locks":[{"lock":"a","mode":"both"}]}"#,
            r#"{"session":"s","locks":[{"lock":"a","wait_ms":0}]}"#,
        ],
    ),
    (
        Method::PUT,
        "/v1/sessions/s",
        &[
            "{}",
            r#"{"ttl_ms":0}"#,
            r#"{"ttl_ms":-1}"#,
            r#"{"ttl_ms":1.5}"#,
            r#"{"ttl_ms":"10000"}"#,
            r#"{"ttl_ms":1000000000000000000}"#,
            r#"{"ttl_ms":1e400}"#,
            r#"{"ttl_ms":1000,"lock_delay_ms":60001}"#,
        ],
    ),
    (
        Method::POST,
        "/v1/locks/a/acquire",
        &[
            "{}",
            r#"{"session":""}"#,
            r#"{"session":"a\u0000b"}"#,
            r#"{"session":7}"#,
            r#"{"session":"s","wait_ms":1000000000000000000}"#,
            r#"{"session":"s","wait_ms":-1}"#,
            r#"{"session":"s","ttl_ms":0}"#,
            r#"{"session":"s","mode":"exclusiv"}"#,
            r#"{"session":"s","request_id":""}"#,
            r#"{"session":"s","session":"t"}"#,
        ],
    ),
    (
        Method::POST,
        "/v1/locks/a/release",
        &[
            "{}",
            r#"{"session":"s","fencing_token":-1}"#,
            r#"{"session":"s","fencing_token":"1"}"#,
            r#"{"session":"s","fencing_token":18446744073709551616}"#,
        ],
    ),
    (Method::POST, "/v1/locks/a/validate", &["{}", r#"{"fencing_token":null}"#]),
    (
        Method::PUT,
        "/v1/queues/t",
        &[
            r#"{"visibility_ms":0}"#,
            r#"{"visibility_ms":1000000000000000000}"#,
            r#"{"max_attempts":0}"#,
            r#"{"max_attempts":4294967296}"#,
            r#"{"max_length":0}"#,
            r#"{"retention_ms":0}"#,
        ],
    ),
    (
        Method::POST,
        "/v1/queues/t/messages",
        &[
            "{}",
            r#"{"messages":[]}"#,
            r#"{"messages":[{}]}"#,
            r#"{"messages":[{"payload":"a","payload_base64":"YQ=="}]}"#,
            r#"{"messages":[{"payload_base64":"%"}]}"#,
            r#"{"messages":[{"payload":{}}]}"#,
            r#"{"messages":[{"payload":"a","delay_ms":1000000000000000000}]}"#,
            r#"{"messages":[{"payload":"a","key":""}]}"#,
            r#"{"messages":[{"payload":"a","dedupe_id":""}]}"#,
            r#"{"messages":[{"payload":"a","headers":{"a":1}}]}"#,
            r#"{"messages":[{"payload":"a","frobnicate":1}]}"#,
        ],
    ),
    (
        Method::POST,
        "/v1/queues/t/groups/g/receive",
        &[
            "{}",
            r#"{"consumer":""}"#,
            r#"{"consumer":"c","max":0}"#,
            r#"{"consumer":"c","max":1001}"#,
            r#"{"consumer":"c","wait_ms":1000000000000000000}"#,
            r#"{"consumer":"c","wait_ms":3600001}"#,
            r#"{"consumer":"c","visibility_ms":0}"#,
        ],
    ),
    (
        Method::POST,
        "/v1/queues/t/groups/g/nack",
        &["{}", r#"{"receipts":[1]}"#, r#"{"receipts":[],"delay_ms":1000000000000000000}"#],
    ),
    (Method::POST, "/v1/queues/t/groups/g/extend", &["{}", r#"{"receipts":[],"visibility_ms":0}"#]),
];

#[tokio::test(start_paused = true)]
async fn values_out_of_their_range_are_invalid_requests() {
    let client = Cluster::start(1).await.client(0);
    for (method, path, bodies) in OUT_OF_RANGE {
        for body in bodies {
            client.ask(method.clone(), path, body).await.problem(400, "invalid_request");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_long_or_too_many_is_an_invalid_request() {
    let client = Cluster::start(1).await.client(0);
    let long = "a".repeat(513);
    let receipts = format!(r#"{{"receipts":[{}"x"]}}"#, r#""x","#.repeat(1000));
    let message = r#"{"payload":""}"#;
    let messages = format!(r#"{{"messages":[{}{message}]}}"#, format!("{message},").repeat(1000));
    for (path, body) in [
        ("locks/a/acquire", format!(r#"{{"session":"{long}"}}"#)),
        ("locks/a/acquire", format!(r#"{{"session":"s","owner":"{long}"}}"#)),
        ("locks/a/acquire", format!(r#"{{"session":"s","request_id":"{long}"}}"#)),
        ("queues/t/messages", messages),
        ("queues/t/messages", format!(r#"{{"messages":[{{"payload":"","key":"{long}"}}]}}"#)),
        ("queues/t/groups/g/receive", format!(r#"{{"consumer":"{long}"}}"#)),
        ("queues/t/groups/g/ack", receipts.clone()),
        ("queues/t/groups/g/nack", receipts.clone()),
        ("queues/t/groups/g/extend", receipts),
    ] {
        client.post(&format!("/v1/{path}"), &body).await.problem(400, "invalid_request");
    }
}

#[tokio::test(start_paused = true)]
async fn parameters_that_make_no_sense_are_invalid_requests() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    for uri in [
        "/v1/locks?limit=0",
        "/v1/locks?limit=1001",
        "/v1/locks?limit=x",
        "/v1/locks?limit=-1",
        "/v1/locks?prefx=a",
        "/v1/ring?keys=a",
    ] {
        client.ask(Method::GET, uri, "").await.problem(400, "invalid_request");
    }
}

#[tokio::test(start_paused = true)]
async fn headers_that_make_no_sense_are_invalid_requests() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    let message = r#"{"messages":[{"payload":"a"}]}"#;
    let fenced = [
        (Method::POST, "/v1/queues/t/messages", message),
        (Method::PUT, "/v1/cache/k", "value"),
        (Method::DELETE, "/v1/cache/k", ""),
    ];
    for (method, path, body) in fenced {
        for headers in [
            &[("x-dss-lock", "a")][..],
            &[("x-dss-fencing-token", "1")],
            &[("x-dss-lock", "a"), ("x-dss-fencing-token", "one")],
            &[("x-dss-lock", ""), ("x-dss-fencing-token", "1")],
        ] {
            let mut request = Request::builder().method(method.clone()).uri(path);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = client.send(request.body(Body::from(body)).unwrap()).await;
            answer.problem(400, "invalid_request");
        }
    }
    for (method, name, value) in [
        (Method::PUT, "if-match", "17"),
        (Method::PUT, "if-match", "*"),
        (Method::PUT, "if-none-match", "\"17\""),
        (Method::DELETE, "if-match", "W/\"17\""),
        (Method::DELETE, "if-none-match", "*"),
    ] {
        let request = Request::builder().method(method).uri("/v1/cache/k").header(name, value);
        let answer = client.send(request.body(Body::from("value")).unwrap()).await;
        answer.problem(400, "invalid_request");
    }
}

fn takes_json() -> impl Iterator<Item = crate::http::Route> {
    table().into_iter().filter(|route| {
        route.request.as_ref().is_some_and(|body| body.media_type == "application/json")
    })
}
