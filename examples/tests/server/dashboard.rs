//! The dashboard in a real browser, over three nodes in one process that are there to be played
//! with. With `DSS_SCREENSHOTS` set to a folder, pictures of it are left there.

mod chromium;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use self::chromium::Page;
use crate::auth::Guarded;
use crate::client::Client;
use crate::process::program;

const DESKTOP: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (390, 844);
const READY_MAX: Duration = Duration::from_secs(120);

/// Three nodes in one process.
struct Demo {
    _folder: TempDir,
    process: Child,
    port: u16,
    client: Client,
}

impl Demo {
    async fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = dss_examples::free_ports_of_three_nodes();
        let process = Command::new(program())
            .args(arguments)
            .args(["--port", &port.to_string(), "--data-dir"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("the server starts");
        let demo = Self { _folder: folder, process, port, client: Client::new() };
        let end = Instant::now() + READY_MAX;
        for node in 0..3 {
            while demo.get(node, "/readyz").await.is_none_or(|(status, _)| status != 200) {
                assert!(Instant::now() < end, "node {node} is not ready");
                sleep(Duration::from_millis(50)).await;
            }
        }
        demo
    }

    fn url(&self, node: u16) -> String {
        format!("http://127.0.0.1:{}", self.port + node)
    }

    async fn get(&self, node: u16, path: &str) -> Option<(u16, String)> {
        let answer = self.client.get(&format!("{}{path}", self.url(node))).await.ok()?;
        Some((answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned()))
    }

    async fn post(&self, path: &str, body: Value) -> u16 {
        let answer = self.client.post(&format!("{}{path}", self.url(0)), body).await;
        answer.expect("the node answers").status.as_u16()
    }

    /// Something to look at: locks, and messages in each state.
    async fn fill(&self) {
        for (lock, session) in [("orders/42", "worker-1"), ("orders/43", "worker-2")] {
            let body = json!({"session": session, "ttl_ms": 600_000});
            assert_eq!(
                self.post(&format!("/v1/locks/{}/acquire", lock.replace('/', "%2F")), body).await,
                200
            );
        }
        for session in ["reader-1", "reader-2"] {
            let body = json!({"session": session, "mode": "shared", "ttl_ms": 600_000});
            assert_eq!(self.post("/v1/locks/catalogue/acquire", body).await, 200);
        }
        for (topic, count) in [("orders", 24), ("mails", 7)] {
            let messages: Vec<_> =
                (0..count).map(|at| json!({"payload": at.to_string()})).collect();
            let path = format!("/v1/queues/{topic}");
            assert_eq!(
                self.post(&format!("{path}/messages"), json!({"messages": messages})).await,
                201
            );
            let body = json!({"consumer": "c", "max": 5, "visibility_ms": 600_000});
            assert_eq!(self.post(&format!("{path}/groups/billing/receive"), body).await, 200);
        }
    }
}

/// Leaves a picture where one is wanted.
async fn picture(page: &mut Page, name: &str) {
    let Some(folder) = std::env::var_os("DSS_SCREENSHOTS").map(PathBuf::from) else { return };
    page.until("document.getElementById('said').textContent === ''").await;
    for (size, width) in [(DESKTOP, "desktop"), (PHONE, "phone")] {
        for scheme in ["light", "dark"] {
            page.look(size, scheme).await;
            sleep(Duration::from_millis(250)).await;
            page.picture(&folder.join(format!("{name}-{width}-{scheme}.png"))).await;
        }
    }
    page.look(DESKTOP, "light").await;
}

fn click(label: &str) -> String {
    format!(
        "(() => {{ const found = [...document.querySelectorAll('button:enabled')].find((one) => \
         [one.getAttribute('aria-label'), one.textContent].includes({label:?})); \
         found?.click(); return Boolean(found); }})()"
    )
}

fn shows(text: &str) -> String {
    format!("document.body.innerText.includes({text:?})")
}

/// Whether the cell of this key at this node shows this state.
fn holds(key: &str, node: &str, state: &str) -> String {
    format!(
        "document.querySelector('#lines tr[data-key={key:?}] td[data-key={node:?}] .state')\
         ?.textContent === {state:?}"
    )
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(no_chromium, ignore = "chromium is not installed")]
async fn the_dashboard_shows_what_happens_while_it_happens() {
    let demo = Demo::start(&["--demo"]).await;
    demo.fill().await;
    let mut page = Page::start().await;
    page.look(DESKTOP, "light").await;
    page.open(&format!("{}/", demo.url(0))).await;

    // At rest: nodes and roles, locks, queues, and the whole ring.
    page.until("document.body.dataset.live === 'live'").await;
    page.until("document.querySelectorAll('.card').length === 3").await;
    page.until("document.querySelectorAll('.card.leader').length === 1").await;
    page.until("document.querySelectorAll('.arc').length === 3").await;
    page.until(&shows("orders/42")).await;
    page.until(&shows("Nobody waits for anybody.")).await;
    page.until(
        "document.querySelector('.topic[data-key=orders] .in_flight b')?.textContent === '5'",
    )
    .await;
    assert_eq!(page.value("document.documentElement.scrollWidth > innerWidth").await, false);

    // A line changes hands as one writes and reads.
    page.until(&holds("greeting", "n2", "I")).await;
    page.until(&click("write greeting at n2")).await;
    page.until(&format!("{} || {}", holds("greeting", "n2", "M"), holds("greeting", "n2", "E")))
        .await;
    page.until(&click("read greeting at n3")).await;
    page.until(&holds("greeting", "n3", "S")).await;
    page.until(&holds("greeting", "n2", "S")).await;
    picture(&mut page, "rest").await;

    // A deadlock is drawn in the moment it is prevented.
    page.until(&click("Play a deadlock")).await;
    page.until("document.querySelectorAll('.edge:not(.refused)').length === 2").await;
    page.until("document.querySelectorAll('.edge.refused').length === 1").await;
    page.until(&shows("cyd asked for pen, which would have closed a circle: it was refused."))
        .await;
    picture(&mut page, "deadlock").await;

    // Nothing was asked of anybody else, nothing was forbidden, and nothing failed: but for the one
    // answer that was to be a refusal.
    assert_eq!(page.asked.iter().map(String::as_str).collect::<Vec<_>>(), [demo.url(0)]);
    page.complaints.retain(|complaint| !complaint.contains("409 (Conflict)"));
    assert_eq!(page.complaints, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(no_chromium, ignore = "chromium is not installed")]
async fn nodes_are_isolated_healed_stopped_and_started_by_keyboard() {
    let demo = Demo::start(&["--demo"]).await;
    demo.fill().await;
    let mut page = Page::start().await;
    page.look(DESKTOP, "light").await;
    page.open(&format!("{}/", demo.url(0))).await;
    let badge = |node: &str, text: &str| {
        format!(
            "document.querySelector('.card[data-key={node}] .badge')?.textContent.includes({text:?})"
        )
    };

    // The leader, unless that is the node which serves the page.
    page.until("document.querySelectorAll('.card.leader').length === 1").await;
    let leader = page.value("document.querySelector('.card.leader').dataset.key").await;
    let node = if leader == "n3" { "n3" } else { "n2" };
    focus(&mut page, &format!("Isolate {node}")).await;
    page.press("Enter").await;
    page.until(&badge(node, "isolated")).await;
    page.until("document.querySelectorAll('.card.leader').length === 1").await;
    page.until(&format!("document.querySelector('.card[data-key={node}] dl') === null")).await;
    picture(&mut page, "isolated").await;
    focus(&mut page, &format!("Heal {node}")).await;
    page.press("Enter").await;
    page.until(&format!("document.querySelector('.card[data-key={node}] dl') !== null")).await;

    focus(&mut page, &format!("Stop {node}")).await;
    page.press("Enter").await;
    page.until(&badge(node, "stopped")).await;
    assert_eq!(demo.get(if node == "n2" { 1 } else { 2 }, "/healthz").await, None);
    page.until("document.querySelectorAll('.card.leader').length === 1").await;
    focus(&mut page, &format!("Start {node}")).await;
    page.press("Enter").await;
    page.until(&badge(node, "follower")).await;
    page.until("document.querySelectorAll('.arc').length === 3").await;

    // The node that serves the page goes: the page says so, and where else the cluster is.
    page.until(&click("Stop n1")).await;
    page.until(&shows("The cluster is also at n2, n3.")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(no_chromium, ignore = "chromium is not installed")]
async fn where_tokens_are_wanted_the_page_asks_for_one_and_keeps_it_to_itself() {
    let guarded = Guarded::start().await;
    let mut page = Page::start().await;
    page.look(DESKTOP, "light").await;
    page.open(&format!("{}/", guarded.cluster.url(0))).await;
    page.until("!document.getElementById('token').hidden").await;
    assert_eq!(page.value("document.querySelectorAll('.card').length").await, 0);
    let give = |token: &str| {
        format!(
            "document.getElementById('secret').value = {token:?}; \
             document.querySelector('#token button').click()"
        )
    };
    // A refusal is still being read when the next token is given: that one counts.
    page.value(
        "{ const ask = window.fetch; window.fetch = async (...of) => { \
         const answer = await ask(...of); window.refused = answer.status; \
         if (!answer.ok) answer.json = () => new Promise((_, fail) => \
             of[1].signal.addEventListener('abort', fail)); \
         return answer; }; }",
    )
    .await;
    page.value(&give("dss_wrong_token")).await;
    page.until("window.refused === 401").await;
    page.value(&give(&guarded.admin())).await;
    page.until("document.body.dataset.live === 'live'").await;
    page.until("document.querySelectorAll('.card').length === 3").await;
    page.until("document.getElementById('token').hidden").await;
    let kept = "localStorage.length + sessionStorage.length + document.cookie.length \
                + document.getElementById('secret').value.length";
    assert_eq!(page.value(kept).await, 0);
    // Nobody can stop nodes here.
    assert_eq!(page.value("document.querySelectorAll('.card button').length").await, 0);
    page.until(&shows("Nobody waits for anybody.")).await;
    picture(&mut page, "plain").await;
}

/// Goes by the tabulator key to the button with this label.
async fn focus(page: &mut Page, label: &str) {
    page.until(&format!("document.querySelector('button[aria-label={label:?}]')")).await;
    page.value("document.activeElement?.blur()").await;
    // More than the page has to go through; what is drawn anew meanwhile may begin from the top.
    for _ in 0..240 {
        page.press("Tab").await;
        if page.value("document.activeElement?.getAttribute('aria-label')").await == label {
            let outlined = "getComputedStyle(document.activeElement).outlineStyle !== 'none'";
            assert_eq!(page.value(outlined).await, true, "one sees where one is");
            return;
        }
    }
    panic!("{label} cannot be reached by keyboard");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_demo_can_be_played_with_and_watching_delays_no_stop() {
    let mut demo = Demo::start(&[]).await;
    assert_eq!(demo.post("/v1/demo/nodes/n2", json!({"action": "stop"})).await, 404);

    let mut watching = tokio::net::TcpStream::connect(("127.0.0.1", demo.port)).await.unwrap();
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    watching.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut told = Vec::new();
    while !String::from_utf8_lossy(&told).contains("event: nodes") {
        assert!(watching.read_buf(&mut told).await.unwrap() > 0);
    }
    let pid = demo.process.id().expect("it runs").to_string();
    assert!(
        std::process::Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success()
    );
    // The stream ends as such: it was not cut off, as it would be that holds up the node.
    watching.read_to_end(&mut told).await.unwrap();
    assert!(told.ends_with(b"0\r\n\r\n"));
    assert!(demo.process.wait().await.unwrap().success());
}
