//! The OpenAPI document says what is served, all of it and nothing else.

use std::collections::BTreeSet;

use serde_json::Value;

use super::cluster::Cluster;
use crate::http::table;

/// The routes that the contract names, but for that of the audit log.
const CONTRACT: [(&str, &str); 35] = [
    ("put", "/v1/sessions/{session}"),
    ("get", "/v1/sessions/{session}"),
    ("delete", "/v1/sessions/{session}"),
    ("post", "/v1/locks/{name}/acquire"),
    ("post", "/v1/locks/{name}/release"),
    ("post", "/v1/locks/{name}/validate"),
    ("get", "/v1/locks/{name}"),
    ("get", "/v1/locks"),
    ("get", "/v1/wait-for"),
    ("delete", "/v1/locks/{name}"),
    ("put", "/v1/queues/{topic}"),
    ("post", "/v1/queues/{topic}/messages"),
    ("post", "/v1/queues/{topic}/groups/{group}/receive"),
    ("post", "/v1/queues/{topic}/groups/{group}/ack"),
    ("post", "/v1/queues/{topic}/groups/{group}/nack"),
    ("post", "/v1/queues/{topic}/groups/{group}/extend"),
    ("get", "/v1/queues/{topic}/groups/{group}/dead"),
    ("post", "/v1/queues/{topic}/groups/{group}/dead/redrive"),
    ("get", "/v1/queues/{topic}"),
    ("get", "/v1/queues"),
    ("delete", "/v1/queues/{topic}"),
    ("get", "/v1/cache/{key}"),
    ("put", "/v1/cache/{key}"),
    ("delete", "/v1/cache/{key}"),
    ("get", "/v1/cache/{key}/line"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/v1/status"),
    ("get", "/v1/ring"),
    ("get", "/metrics"),
    ("post", "/v1/leader"),
    ("post", "/v1/members"),
    ("delete", "/v1/members/{id}"),
    ("get", "/v1/events"),
    ("get", "/"),
];

async fn document() -> Value {
    Cluster::start(1).await.client(0).get("/openapi.json").await.json(200)
}

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            methods
                .as_object()
                .unwrap()
                .iter()
                .map(move |(method, operation)| (method.clone(), path.clone(), operation))
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn exactly_what_is_served_is_documented() {
    let document = document().await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let documented: BTreeSet<_> =
        operations(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
    let served: BTreeSet<_> = table()
        .iter()
        .map(|route| (route.method.as_str().to_lowercase(), route.path.to_owned()))
        .collect();
    assert_eq!(documented, served);
    for (method, path) in CONTRACT {
        assert!(served.contains(&(method.to_owned(), path.to_owned())), "{method} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_operation_is_described_and_has_a_name_of_its_own() {
    let document = document().await;
    let operations = operations(&document);
    let names: BTreeSet<_> = operations
        .iter()
        .map(|(_, _, operation)| operation["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), operations.len());
    for (method, path, operation) in operations {
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path}");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            let described = parameters
                .iter()
                .any(|one| one["name"] == name && one["in"] == "path" && one["required"] == true);
            assert!(described, "{name} of {method} {path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_reference_leads_somewhere() {
    let document = document().await;
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 50, "only {} references", references.len());
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("references stay within the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_type_of_a_problem_leads_to_its_description() {
    let client = Cluster::start(1).await.client(0);
    let document = document().await;
    let problem = client.get("/v1/nothing").await.problem(404, "not_found");
    let (path, pointer) = problem["type"].as_str().unwrap().split_once('#').unwrap();
    assert_eq!(path, "/openapi.json");
    assert!(document.pointer(pointer).is_some_and(|response| response["description"].is_string()));
}

#[tokio::test(start_paused = true)]
async fn bounds_and_closed_bodies_are_documented() {
    let document = document().await;
    let acquire = &document["components"]["schemas"]["Acquire"];
    assert_eq!(acquire["additionalProperties"], false);
    assert_eq!(acquire["required"], serde_json::json!(["session"]));
    let wait = acquire["properties"]["wait_ms"].to_string();
    assert!(wait.contains("\"maximum\":"), "{wait}");
}

#[tokio::test(start_paused = true)]
async fn a_body_is_optional_where_nothing_in_it_is_needed() {
    let document = document().await;
    for (method, path, required) in [
        ("post", "/v1/locks/{name}/acquire", true),
        ("put", "/v1/cache/{key}", true),
        ("put", "/v1/queues/{topic}", false),
        ("post", "/v1/queues/{topic}/groups/{group}/dead/redrive", false),
    ] {
        let body = &document["paths"][path][method]["requestBody"];
        assert_eq!(body["required"], required, "{method} {path}");
    }
}

fn collect_references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                into.push(reference.clone());
            }
            members.values().for_each(|member| collect_references(member, into));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        _ => {}
    }
}
