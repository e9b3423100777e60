//! A node that cannot start says why in one line, and leaves everything as it was.

mod encrypted;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use dss_examples::free_port;
use tempfile::TempDir;

use crate::process::{Cluster, node_arguments, program};

/// How long a node may take to find out that it cannot start. It waits a while for a data folder
/// that is in use.
const REFUSAL_MAX: Duration = Duration::from_secs(80);

/// A folder with the configuration of a cluster of one node `n1` and, once that has run, its data.
struct Site {
    folder: TempDir,
    client: u16,
    peer: u16,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let site = Self { folder, client: free_port(), peer: free_port() };
        site.configure("test", "n1", "");
        site
    }

    /// A site whose node has run, and has stopped.
    async fn with_data() -> Self {
        let site = Self::new();
        let mut child = Command::new(program())
            .args(node_arguments(&site.config(), "n1"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let url = format!("http://127.0.0.1:{}/v1/locks/orders/acquire", site.client);
        let client = crate::client::Client::new();
        let body = serde_json::json!({"session": "me"});
        let taken = async {
            while !client.post(&url, body.clone()).await.is_ok_and(|answer| answer.status == 200) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let taken = tokio::time::timeout(REFUSAL_MAX, taken).await;
        crate::process::signal(&child, "TERM");
        let status = child.wait().expect("a child can be waited for");
        assert!(taken.is_ok() && status.success(), "{status}");
        site
    }

    fn configure(&self, cluster: &str, node: &str, more: &str) {
        let Self { client, peer, .. } = self;
        let text = format!(
            "cluster = '{cluster}'\ndata_dir = '{}'\n{more}\n[[nodes]]\nid = '{node}'\n\
             client = '127.0.0.1:{client}'\npeer = '127.0.0.1:{peer}'\n",
            self.folder.path().join("data").display()
        );
        fs::write(self.config(), text).expect("a writable folder");
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("cluster.toml")
    }

    /// A file of the node's data.
    fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join("n1").join(name)
    }

    /// The first segment of the log.
    fn segment(&self) -> PathBuf {
        let folder = self.data("");
        let names = fs::read_dir(&folder).expect("the node has data").map(|entry| {
            entry.expect("a readable folder").file_name().to_string_lossy().into_owned()
        });
        let first = names.filter(|name| name.starts_with(|first: char| first.is_numeric())).min();
        folder.join(first.expect("a log has a segment"))
    }

    /// Runs the node `id` and checks that it refuses in one line with all of `named` in it, with
    /// exit status 2, and that nothing under the site's folder has changed.
    fn is_refused(&self, id: &str, named: &[&str]) {
        let before = contents(self.folder.path());
        let refused = refusal(Command::new(program()).args(node_arguments(&self.config(), id)));
        for name in named {
            assert!(refused.contains(name), "{name} is not named: {refused}");
        }
        assert_same(&before, &contents(self.folder.path()), &refused);
    }
}

/// What a program says that refuses to run.
fn refusal(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = run(command);
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert_eq!(stdout, "");
    let line = stderr.strip_suffix('\n').expect("a whole line");
    assert!(line.starts_with("error: ") && !line.contains('\n'), "not one line: {stderr}");
    line.to_owned()
}

/// Runs a program to its end, which must come soon.
fn run(command: &mut Command) -> Output {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let id = child.id().to_string();
    let (ended, watched) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if watched.recv_timeout(REFUSAL_MAX).is_err() {
            // It serves what it should refuse: the status tells.
            let _ = Command::new("kill").args(["-s", "KILL", &id]).status();
        }
    });
    let output = child.wait_with_output().expect("a child can be waited for");
    // The thread waits for this, or has ended by itself.
    let _ = ended.send(());
    watch.join().expect("it does not panic");
    output
}

/// Every file and folder under `folder`, with what is in it.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            found.extend(contents(&path));
            found.insert(path, None);
        } else {
            let bytes = fs::read(&path).expect("a readable file");
            found.insert(path, Some(bytes));
        }
    }
    found
}

fn assert_same(
    before: &BTreeMap<PathBuf, Option<Vec<u8>>>,
    after: &BTreeMap<PathBuf, Option<Vec<u8>>>,
    refused: &str,
) {
    let names = |files: &BTreeMap<PathBuf, _>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(before), names(after), "{refused}");
    for (path, bytes) in before {
        assert!(after[path] == *bytes, "{} has changed: {refused}", path.display());
    }
}

#[test]
fn what_the_configuration_gets_wrong_is_named_with_its_place() {
    let site = Site::new();
    site.configure("test", "n1", "shards = 5");
    site.is_refused("n1", &["cluster.toml:3", "shards"]);
    site.configure("test", "n1", "[timing]\nelection_timeout_ms = 'soon'");
    site.is_refused("n1", &["cluster.toml:4", "election_timeout_ms"]);
    site.configure("test", "n 1", "");
    site.is_refused("n 1", &["cluster.toml:5", "nodes[0].id"]);
    site.configure("test", "n1", "");
    site.is_refused("n7", &["--id", "n7", "cluster.toml"]);
    fs::write(site.config(), b"cluster = '\xff'").unwrap();
    site.is_refused("n1", &["cluster.toml"]);
    fs::remove_file(site.config()).unwrap();
    site.is_refused("n1", &["cluster.toml", "cannot be read"]);
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    for (arguments, named) in [
        (&["--frobnicate"][..], "--frobnicate"),
        (&["node", "--id", "n1"], "--config"),
        (&["dance"], "dance"),
    ] {
        let refused = refusal(Command::new(program()).args(arguments));
        assert!(refused.contains(named), "{refused}");
    }
}

#[test]
fn the_configuration_is_checked_and_shown_with_what_is_said_beside_the_file() {
    let site = Site::new();
    site.configure("test", "n1", "[limits]\nidle_ms = 1\nbody_ms = 1\nheaders_ms = 1");
    let config = site.config().display().to_string();
    let check = |more: &[&str]| {
        let mut command = Command::new(program());
        command.args(["config", "check", "--config", &config]).args(more);
        command.env("DSS_LIMITS_BODY_MS", "2").env("DSS_LIMITS_HEADERS_MS", "2");
        command
    };
    let set = ["--id", "n1", "--set", "limits.headers_ms=3", "--data-dir", "elsewhere"];
    let shown = check(&set).output().expect("the program starts");
    assert!(shown.status.success() && shown.stderr.is_empty(), "{shown:?}");
    let shown = String::from_utf8(shown.stdout).expect("text");
    for line in ["idle_ms = 1", "body_ms = 2", "headers_ms = 3", "data_dir = \"elsewhere\""] {
        assert!(shown.lines().any(|other| other == line), "{line} is not in\n{shown}");
    }
    assert!(!site.folder.path().join("data").exists(), "nothing is started");

    for (arguments, named) in [
        (&["--id", "n7"][..], "--id"),
        (&["--set", "limits.headers_ms=0"], "limits.headers_ms"),
        (&["--set", "limits.headers=1"], "limits.headers"),
        (&["--set", "nonsense"], "--set"),
    ] {
        let refused = refusal(&mut check(arguments));
        assert!(refused.contains(named), "{refused}");
    }
    let refused = refusal(check(&[]).env("DSS_LIMITS_BODY_MS", "soon"));
    assert!(refused.contains("DSS_LIMITS_BODY_MS"), "{refused}");
}

#[test]
fn a_taken_port_is_named_before_anything_is_created() {
    let site = Site::new();
    for (field, port) in [("nodes[0].client", site.client), ("nodes[0].peer", site.peer)] {
        let taken = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        site.is_refused("n1", &["cluster.toml", field, &format!("127.0.0.1:{port}")]);
        drop(taken);
    }
    assert!(!site.folder.path().join("data").exists());
}

#[tokio::test]
async fn the_data_of_another_node_or_cluster_is_left_alone() {
    let site = Site::with_data().await;
    site.configure("other", "n1", "");
    site.is_refused("n1", &["identity", "test", "other"]);

    let data = site.folder.path().join("data");
    fs::rename(data.join("n1"), data.join("n2")).unwrap();
    site.configure("test", "n2", "");
    site.is_refused("n2", &["identity", "n1", "n2"]);
}

#[tokio::test]
async fn data_that_cannot_be_read_is_named_and_left_alone() {
    let site = Site::with_data().await;
    let segment = site.segment();
    let name = segment.file_name().unwrap().to_string_lossy().into_owned();

    let whole = fs::read(&segment).unwrap();
    let mut damaged = whole.clone();
    // Early in the log: nothing that a crash leaves looks like it.
    damaged[200] ^= 0xff;
    fs::write(&segment, damaged).unwrap();
    site.is_refused("n1", &[&name, "damaged"]);
    fs::remove_file(&segment).unwrap();
    site.is_refused("n1", &["missing"]);
    fs::create_dir(&segment).unwrap();
    site.is_refused("n1", &[&name]);
    fs::remove_dir(&segment).unwrap();
    fs::write(&segment, whole).unwrap();

    for file in ["identity", "incarnation"] {
        let path = site.data(file);
        let whole = fs::read(&path).unwrap();
        for damage in [&b"\xff\xfe"[..], b"", b"x\n"] {
            fs::write(&path, damage).unwrap();
            site.is_refused("n1", &[file]);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        site.is_refused("n1", &[file]);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, whole).unwrap();
    }

    let data = site.folder.path().join("data");
    fs::rename(&data, site.folder.path().join("elsewhere")).unwrap();
    fs::write(&data, "not a folder").unwrap();
    site.is_refused("n1", &["data"]);
}

#[tokio::test]
async fn the_data_of_a_node_that_runs_is_named_as_in_use() {
    let mut cluster = Cluster::start(&[]).await;
    let text = fs::read_to_string(cluster.config_file()).unwrap();
    let other = tempfile::tempdir().unwrap();
    let config = other.path().join("cluster.toml");
    // The same data by another configuration, whose ports are free.
    let text = text.lines().map(|line| match line.split_once(":") {
        Some((key, _)) if key.starts_with("client") || key.starts_with("peer") => {
            format!("{key}:{}\"\n", free_port())
        }
        _ => format!("{line}\n"),
    });
    fs::write(&config, text.collect::<String>()).unwrap();
    let refused = refusal(Command::new(program()).args(node_arguments(&config, "n1")));
    assert!(refused.contains("in use") && refused.contains("n1"), "{refused}");
    assert!(cluster.is_running(0));
    cluster.ready().await;
}
