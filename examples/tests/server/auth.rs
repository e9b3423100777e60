//! Tokens and the audit log, as an operator uses them: by the command line, on real processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::client::{Answer, Client};
use crate::process::{Cluster, program};

/// How long a change of the tokens may take to be known on every node: it is to be a second, of
/// which it takes a small part, and more where the machine does everything else as well.
const KNOWN_MAX: Duration = Duration::from_secs(10);

/// A cluster that wants tokens, and the file with the first one.
pub(crate) struct Guarded {
    pub(crate) cluster: Cluster,
    _folder: TempDir,
    token_file: PathBuf,
}

impl Guarded {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let token_file = folder.path().join("admin.token");
        let out = token_file.to_str().expect("a path of text");
        let made = run(&["token", "bootstrap", "--out", out]);
        assert!(made.status.success(), "{made:?}");
        let config = text(&made.stdout);
        let cluster = Cluster::start_configured(&config).await;
        Self { cluster, _folder: folder, token_file }
    }

    pub(crate) fn admin(&self) -> String {
        std::fs::read_to_string(&self.token_file).expect("the token was made").trim().to_owned()
    }

    /// Runs a command as the first admin, against the node at this place.
    fn run(&self, node: usize, arguments: &[&str]) -> Output {
        let file = self.token_file.to_str().expect("a path of text");
        let asked = ["--target", self.cluster.url(node), "--token-file", file];
        run(&[arguments, &asked].concat())
    }

    /// Makes a token, and returns it.
    fn create(&self, node: usize, role: &str, name: &str) -> String {
        let made = self.run(node, &["token", "create", "--role", role, "--name", name]);
        assert!(made.status.success(), "{made:?}");
        text(&made.stdout).trim().to_owned()
    }

    async fn ask(&self, node: usize, method: Method, path: &str, token: &str) -> Answer {
        let url = format!("{}{path}", self.cluster.url(node));
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        Client::new().send(method, &url, &headers, Bytes::from("x")).await.expect("an answer")
    }

    /// Waits until every node answers a request with this token so.
    async fn until(&self, token: &str, status: u16) {
        let start = Instant::now();
        for node in 0..3 {
            while self.ask(node, Method::GET, "/v1/status", token).await.status != status {
                assert!(start.elapsed() < KNOWN_MAX, "node {node} does not know in time");
                sleep(Duration::from_millis(10)).await;
            }
        }
        println!("every node answers {status} after {:?}", start.elapsed());
    }
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).env_remove("DSS_TOKEN").env_remove("DSS_TOKEN_FILE");
    command.output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn public_part(token: &str) -> &str {
    token.split('_').nth(1).expect("dss_<id>_<secret>")
}

#[tokio::test]
async fn tokens_come_and_go_on_every_node_and_are_in_no_log() {
    let guarded = Guarded::start().await;
    let admin = guarded.admin();
    let writer = guarded.create(0, "writer", "ci");
    guarded.until(&writer, 200).await;
    let put = guarded.ask(1, Method::PUT, "/v1/cache/k", &writer).await;
    assert_eq!(put.status, 204, "{put:?}");
    let refused = guarded.ask(2, Method::DELETE, "/v1/locks/l", &writer).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.json()["code"], "forbidden");
    let listed = guarded.run(1, &["token", "list"]);
    let listed = text(&listed.stdout);
    assert!(listed.contains(public_part(&writer)) && listed.contains("ci"), "{listed}");

    let revoked = guarded.run(2, &["token", "revoke", public_part(&writer)]);
    assert!(revoked.status.success(), "{revoked:?}");
    guarded.until(&writer, 401).await;
    let unknown = guarded.run(0, &["token", "revoke", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("not_found"), "{unknown:?}");

    for token in [&admin, &writer] {
        let secret = token.rsplit('_').next().unwrap();
        for node in 0..3 {
            assert!(!guarded.cluster.log(node).contains(secret), "in the log of node {node}");
            let metrics = guarded.ask(node, Method::GET, "/metrics", &admin).await;
            assert!(!text(&metrics.body).contains(secret), "in the metrics of node {node}");
        }
    }
}

#[tokio::test]
async fn tokens_outlive_a_restart_of_the_node_that_is_asked() {
    let mut guarded = Guarded::start().await;
    let reader = guarded.create(0, "reader", "prometheus");
    guarded.until(&reader, 200).await;
    guarded.cluster.take(1).kill();
    guarded.cluster.spawn(1);
    guarded.cluster.ready().await;
    assert_eq!(guarded.ask(1, Method::GET, "/metrics", &reader).await.status, 200);
    assert_eq!(guarded.ask(1, Method::PUT, "/v1/cache/k", &reader).await.status, 403);
}

/// Does something to a copy of the log, and verifies it with what the cluster knows.
fn tampered(
    guarded: &Guarded,
    folder: &Path,
    change: impl FnOnce(&mut Vec<String>),
) -> (Option<i32>, String) {
    let copy = tempfile::tempdir().expect("a temporary folder");
    for name in ["audit.key", "audit-00000000000000000001.jsonl"] {
        std::fs::copy(folder.join(name), copy.path().join(name)).expect("a log");
    }
    let file = copy.path().join("audit-00000000000000000001.jsonl");
    let mut lines: Vec<_> =
        std::fs::read_to_string(&file).expect("a log").lines().map(str::to_owned).collect();
    change(&mut lines);
    std::fs::write(&file, lines.join("\n") + "\n").expect("a writable folder");
    let verified = guarded.run(1, &["audit", "verify", file.to_str().expect("a path of text")]);
    (verified.status.code(), text(&verified.stderr) + &text(&verified.stdout))
}

#[tokio::test]
async fn whatever_is_done_to_an_audit_log_is_found_and_the_line_named() {
    let mut guarded = Guarded::start().await;
    let writer = guarded.create(0, "writer", "ci");
    guarded.until(&writer, 200).await;
    for number in 0..8 {
        let path = format!("/v1/cache/{number}");
        assert_eq!(guarded.ask(0, Method::PUT, &path, &writer).await.status, 204);
    }
    // What was answered outlives a crash: it was durable before.
    guarded.cluster.take(0).kill();
    guarded.cluster.spawn(0);
    guarded.cluster.ready().await;
    assert_eq!(guarded.ask(0, Method::PUT, "/v1/cache/last", &writer).await.status, 204);
    // The cluster knows of it within a second.
    let entries = guarded.ask(0, Method::GET, "/v1/audit", &guarded.admin()).await.json();
    let entries = entries["entries"].as_array().unwrap().len() as u64;
    let known = async || {
        let page = guarded.ask(1, Method::GET, "/v1/audit", &guarded.admin()).await.json();
        let heads = page["heads"].as_array().unwrap().clone();
        heads.iter().any(|head| head["node"] == "n1" && head["sequence"] == entries)
    };
    let start = Instant::now();
    while !known().await {
        assert!(start.elapsed() < KNOWN_MAX, "the head is not known in time");
        sleep(Duration::from_millis(50)).await;
    }

    let folder = guarded.cluster.data_folder(0).join("audit");
    // The first line is the file's header: entry n stands in line n + 1.
    let (status, said) = tampered(&guarded, &folder, |_| {});
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains(&format!("n1: entries 1 to {entries} are as they were")), "{said}");
    type Change = fn(&mut Vec<String>);
    let changes: [(&str, Change, usize); 5] = [
        ("changed", |lines| lines[4] = lines[4].replace("ci", "cI"), 5),
        ("deleted", |lines| drop(lines.remove(4)), 5),
        ("swapped", |lines| lines.swap(4, 6), 5),
        ("inserted", |lines| lines.insert(4, lines[6].clone()), 5),
        ("cut", |lines| lines.truncate(5), 6),
    ];
    for (what, change, line) in changes {
        let (status, said) = tampered(&guarded, &folder, change);
        assert_eq!(status, Some(1), "{what}: {said}");
        assert!(said.contains(&format!(".jsonl:{line}: ")), "{what}: {said}");
    }
}
