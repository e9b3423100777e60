//! Commands that run under a lock.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::process::{Cluster, program, signal};

/// How long anything may take here that should take a moment.
const PATIENCE: Duration = Duration::from_secs(80);

/// `lock`, run with these arguments against all nodes of the cluster.
fn lock(cluster: &Cluster, arguments: &[&str]) -> Child {
    let targets = [0, 1, 2].map(|node| cluster.url(node)).join(",");
    Command::new(program())
        .args(["lock", "--target", &targets])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// What a process that must end soon said, and how it ended.
async fn output(child: Child) -> Output {
    let output = tokio::task::spawn_blocking(move || child.wait_with_output());
    let output = tokio::time::timeout(PATIENCE, output).await.expect("the program ends");
    output.expect("waiting does not panic").expect("a child can be waited for")
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

/// Waits until the command has written its file.
async fn written(file: &Path) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match std::fs::read_to_string(file) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => assert!(Instant::now() < deadline, "{} is not written", file.display()),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

async fn holders(cluster: &Cluster, name: &str) -> Vec<Value> {
    let url = format!("{}/v1/locks/{name}", cluster.url(0));
    let answer = cluster.client.get(&url).await.expect("the node answers");
    match answer.status.as_u16() {
        200 => answer.json()["holders"].as_array().expect("an array").clone(),
        404 => Vec::new(),
        _ => panic!("{answer:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_under_a_lock_with_its_token_and_gives_its_status() {
    let cluster = Cluster::start(&[]).await;
    let print = "echo $DSS_LOCK $DSS_SESSION $DSS_FENCING_TOKEN; exit 7";
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let output =
            output(lock(&cluster, &["--session", "me", "a/b c", "--", "sh", "-c", print])).await;
        assert_eq!(status(&output), 7, "{output:?}");
        let said = String::from_utf8(output.stdout).expect("text");
        let token = said.trim().strip_prefix("a/b c me ").unwrap_or_else(|| panic!("{said}"));
        tokens.push(token.parse::<u64>().expect("a number"));
    }
    assert!(tokens[0] < tokens[1], "{tokens:?}");
    assert!(holders(&cluster, "a%2Fb%20c").await.is_empty(), "it is given back");

    for (arguments, expected) in [
        (&["x", "--", "sh", "-c", "kill -KILL $$"][..], 137),
        (&["x", "--", "/no/such/command"], 127),
        (&["x", "--", "/"], 126),
        (&["", "--", "true"], 2),
    ] {
        let output = output(lock(&cluster, arguments)).await;
        assert_eq!(status(&output), expected, "{arguments:?}: {output:?}");
    }
    assert!(holders(&cluster, "x").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_runs_at_a_time_and_readers_run_together() {
    let cluster = Cluster::start(&[]).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (begun, go) = (folder.path().join("begun"), folder.path().join("go"));
    let script = format!(
        "echo $$ > {0}; until [ -e {1} ]; do sleep 0.05; done",
        begun.display(),
        go.display()
    );
    let first = lock(&cluster, &["--shared", "a", "--", "sh", "-c", &script]);
    written(&begun).await;

    let refused = output(lock(&cluster, &["--try", "a", "--", "true"])).await;
    assert_eq!(status(&refused), 75, "{refused:?}");
    let late = output(lock(&cluster, &["--wait-ms", "200", "a", "--", "true"])).await;
    assert_eq!(status(&late), 75, "{late:?}");
    let together = output(lock(&cluster, &["--shared", "--try", "a", "--", "true"])).await;
    assert_eq!(status(&together), 0, "{together:?}");

    let waiting = lock(&cluster, &["a", "--", "echo", "ran"]);
    std::fs::write(&go, "").expect("a writable folder");
    assert_eq!(status(&output(first).await), 0);
    let waited = output(waiting).await;
    assert_eq!((status(&waited), waited.stdout.as_slice()), (0, &b"ran\n"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_killed_with_all_it_started_when_its_lock_is_lost() {
    let cluster = Cluster::start(&[]).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let begun = folder.path().join("begun");
    // Both ignore the polite request.
    let script = format!("trap '' TERM; sleep 1000 & echo $! > {}; wait; wait", begun.display());
    let arguments = ["--ttl-ms", "6000", "--grace-ms", "100", "a", "--", "sh", "-c", &script];
    let child = lock(&cluster, &arguments);
    let grandchild = written(&begun).await;
    let url = format!("{}/v1/locks/a", cluster.url(1));
    let forced = cluster.client.send(Method::DELETE, &url, &[], bytes::Bytes::new()).await;
    assert_eq!(forced.expect("the node answers").status, 204);

    let output = output(child).await;
    assert_eq!(status(&output), 76, "{output:?}");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("the lock was taken away"), "{said}");
    let deadline = Instant::now() + PATIENCE;
    // A zombie whose parent is gone is reaped by somebody, sooner or later.
    while is_alive(&grandchild) {
        assert!(Instant::now() < deadline, "{grandchild} lives");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Whether there is such a process that is not a zombie.
fn is_alive(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !(stat.is_empty() || stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_outlives_the_leader_and_is_told_to_stop() {
    let mut cluster = Cluster::start(&[]).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let begun = folder.path().join("begun");
    let script = format!("trap 'exit 9' TERM; echo $$ > {}; sleep 1000 & wait", begun.display());
    let child = lock(&cluster, &["--ttl-ms", "8000", "a", "--", "sh", "-c", &script]);
    let process = written(&begun).await;
    // The node that the program talks to dies; it goes on with another.
    cluster.take(0).kill();
    sleep(Duration::from_secs(9)).await;
    assert!(is_alive(&process), "the lock was renewed elsewhere");

    signal(&child, "TERM");
    assert_eq!(status(&output(child).await), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_was_paused_for_longer_than_its_lock_lasts_kills_its_command() {
    let cluster = Cluster::start(&[]).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let begun = folder.path().join("begun");
    let script = format!("echo $$ > {}; sleep 1000", begun.display());
    let arguments = ["--ttl-ms", "4000", "--grace-ms", "100", "a", "--", "sh", "-c", &script];
    let paused = lock(&cluster, &arguments);
    let process = written(&begun).await;
    signal(&paused, "STOP");
    // Somebody else gets the lock as soon as it has expired, while the command still runs.
    let next = output(lock(&cluster, &["a", "--", "echo", "ran"])).await;
    assert_eq!((status(&next), next.stdout.as_slice()), (0, &b"ran\n"[..]));
    assert!(is_alive(&process), "nobody can kill it yet");

    signal(&paused, "CONT");
    let output = output(paused).await;
    assert_eq!(status(&output), 76, "{output:?}");
    assert!(!is_alive(&process), "the command is killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_shown_in_the_terminal() {
    let mut cluster = Cluster::start(&[]).await;
    let show = |target: &str, more: &[&str]| {
        let child = Command::new(program())
            .args(["status", "--target", target])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        output(child.expect("the program starts"))
    };
    let url = cluster.url(1).to_owned();
    let shown = show(&url, &[]).await;
    let text = String::from_utf8(shown.stdout.clone()).expect("text");
    assert_eq!(status(&shown), 0, "{shown:?}");
    assert_eq!(text.lines().count(), 4, "{text}");
    assert_eq!(text.matches("leader").count(), 1, "{text}");

    cluster.take(2).kill();
    let shown = show(&url, &["--json"]).await;
    assert_eq!(status(&shown), 1, "{shown:?}");
    let rows: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!((&rows[2]["id"], &rows[2]["answers"]), (&"n3".into(), &false.into()));

    let nowhere = show("http://127.0.0.1:1", &[]).await;
    assert_eq!((status(&nowhere), nowhere.stdout.len()), (1, 0), "{nowhere:?}");
}
