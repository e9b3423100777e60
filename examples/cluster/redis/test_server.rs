//! A real `redis-server` for a test: its own process, port and folder, gone with the test.
//!
//! Tests that use it are marked
//! `#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]`.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dss_examples::free_port;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// How long a server may take to start or to stop, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often its state is looked at meanwhile.
const POLL: Duration = Duration::from_millis(10);
/// How often another port is tried where somebody else took the one that was free.
const PORTS_TRIED: usize = 5;

/// A Redis server. What it acknowledges is on disk: `appendfsync always`.
pub(crate) struct RedisServer {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
}

impl RedisServer {
    /// Starts an empty server and waits until it answers.
    pub(crate) async fn start() -> Self {
        for _ in 0..PORTS_TRIED {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut server = Self { folder, port: free_port(), process: None };
            if server.try_start().await {
                return server;
            }
        }
        panic!("redis-server does not start on any of {PORTS_TRIED} ports");
    }

    /// Starts several.
    pub(crate) async fn start_several(count: usize) -> Vec<Self> {
        let mut servers = Vec::new();
        for _ in 0..count {
            servers.push(Self::start().await);
        }
        servers
    }

    /// Where it is: `redis://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// Stops it with SIGTERM and waits until it has ended.
    pub(crate) async fn stop(&mut self) {
        self.signal("-TERM");
        let deadline = Instant::now() + PATIENCE;
        let process = self.process.as_mut().expect("the server runs");
        while process.try_wait().expect("it is our child").is_none() {
            assert!(Instant::now() < deadline, "redis-server ignores SIGTERM");
            sleep(POLL).await;
        }
        self.process = None;
    }

    /// Kills it with SIGKILL: what it did not write to disk is gone.
    pub(crate) async fn kill(&mut self) {
        self.end();
    }

    /// Stops it from doing anything, without its connections breaking: SIGSTOP.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on: SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    /// Starts it again, on the same port with the data that it had, and waits until it answers.
    pub(crate) async fn restart(&mut self) {
        assert!(self.process.is_none(), "the server runs");
        let deadline = Instant::now() + PATIENCE;
        while !self.try_start().await {
            assert!(Instant::now() < deadline, "redis-server does not start: {}", self.log());
        }
    }

    /// Starts it again without the data that it had.
    pub(crate) async fn restart_empty(&mut self) {
        assert!(self.process.is_none(), "the server runs");
        self.folder = tempfile::tempdir().expect("a temporary folder");
        self.restart().await;
    }

    /// Copies what it has on disk, while it does not run, for [`put_back`](Self::put_back).
    pub(crate) fn copy_of_data(&self) -> TempDir {
        assert!(self.process.is_none(), "the server runs");
        let copy = tempfile::tempdir().expect("a temporary folder");
        copy_folder(self.folder.path(), copy.path());
        copy
    }

    /// Gives it an older copy of its data, while it does not run.
    pub(crate) fn put_back(&mut self, copy: TempDir) {
        assert!(self.process.is_none(), "the server runs");
        self.folder = copy;
    }

    /// Starts the process; false where it ends instead of answering.
    async fn try_start(&mut self) -> bool {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log"));
        let log = log.expect("a writable folder");
        let process = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no"])
            .arg("--dir")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("redis-server is on the PATH");
        self.process = Some(process);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let process = self.process.as_mut().expect("it was just started");
            if process.try_wait().expect("it is our child").is_some() {
                self.process = None;
                return false;
            }
            if answers(self.port).await {
                return true;
            }
            assert!(Instant::now() < deadline, "redis-server does not answer: {}", self.log());
            sleep(POLL).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("the server runs");
        let sent = Command::new("kill").args([signal, &process.id().to_string()]).status();
        assert!(sent.expect("every Unix has kill").success());
    }

    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether the server at this port answers and has loaded its data.
async fn answers(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(b"PING\r\n").await.ok()?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await.ok()?;
        (answer == *b"+PONG\r\n").then_some(())
    };
    matches!(timeout(Duration::from_secs(1), ask).await, Ok(Some(())))
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).expect("a readable folder") {
        let entry = entry.expect("a readable folder");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            std::fs::create_dir(&target).expect("a writable folder");
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a readable file");
        }
    }
}
