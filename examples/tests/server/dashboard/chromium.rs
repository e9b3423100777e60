//! A browser without a window, driven by the DevTools protocol.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long the browser may take for anything, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one page. It ends when it is dropped.
pub(super) struct Page {
    _browser: Child,
    _profile: TempDir,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    next: u64,
    /// Errors, of scripts and of what the page's policy forbids.
    pub(super) complaints: Vec<String>,
    /// Hosts that the page asked anything.
    pub(super) asked: BTreeSet<String>,
}

impl Page {
    /// Starts a browser and opens nothing.
    pub(super) async fn start() -> Self {
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut browser = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--remote-debugging-port=0", "--hide-scrollbars", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the browser starts");
        let said = browser.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(said).lines();
        let address = timeout(PATIENCE, async {
            loop {
                let line = lines.next_line().await.expect("text").expect("the browser runs");
                if let Some((_, address)) = line.split_once("DevTools listening on ") {
                    return address.to_owned();
                }
            }
        });
        let address = address.await.expect("the browser says where it listens");
        // What else it says is read, so that it never waits to say it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let (socket, _) = connect_async(address).await.expect("the browser listens");
        let mut page = Self {
            _browser: browser,
            _profile: profile,
            socket,
            session: String::new(),
            next: 0,
            complaints: Vec::new(),
            asked: BTreeSet::new(),
        };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = page.call("Target.attachToTarget", attach).await;
        page.session = attached["sessionId"].as_str().expect("a name").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({})).await;
        }
        page
    }

    /// A window of this size, by day or by night.
    pub(super) async fn look(&mut self, (width, height): (u32, u32), scheme: &str) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    pub(super) async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url})).await;
        self.until("location.protocol === 'http:' && document.readyState === 'complete'").await;
    }

    /// The value of an expression of the page.
    pub(super) async fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", asked).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression of the page is true.
    pub(super) async fn until(&mut self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        while self.value(&format!("Boolean({expression})")).await != true {
            if Instant::now() > end {
                let text = self.value("document.body.innerText").await;
                panic!(
                    "never: {expression}\n{}\n{:?}",
                    text.as_str().unwrap_or(""),
                    self.complaints
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Presses a key as a person does.
    pub(super) async fn press(&mut self, key: &str) {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let code = match key {
                "Tab" => 9,
                _ => 13,
            };
            let event = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text,
            });
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// A picture of the whole page.
    pub(super) async fn picture(&mut self, file: &Path) {
        let asked = json!({"format": "png", "captureBeyondViewport": true});
        let answer = self.call("Page.captureScreenshot", asked).await;
        let data = answer["data"].as_str().expect("a picture");
        let data = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
        std::fs::write(file, data).expect("a writable folder");
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.next += 1;
        let number = self.next;
        let mut message = json!({"id": number, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.socket.send(Message::text(message.to_string())).await.expect("the browser runs");
        let answer = async {
            loop {
                let message = self.socket.next().await.expect("the browser runs").expect("sound");
                let Message::Text(text) = message else { continue };
                let message: Value = serde_json::from_str(&text).expect("JSON");
                if message["id"] == number {
                    return message;
                }
                self.note(&message);
            }
        };
        let answer = timeout(PATIENCE, answer).await.expect("the browser answers");
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Keeps what happened besides.
    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(parameters.to_string()),
            Some("Log.entryAdded") if parameters["entry"]["level"] == "error" => {
                self.complaints.push(parameters["entry"].to_string());
            }
            Some("Network.requestWillBeSent") => {
                let url = parameters["request"]["url"].as_str().unwrap_or_default();
                let host = url.split('/').take(3).collect::<Vec<_>>().join("/");
                self.asked.insert(host);
            }
            _ => {}
        }
    }
}
