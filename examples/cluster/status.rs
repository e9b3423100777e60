//! The cluster in the terminal: which nodes there are, what they do and how far they are.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use axum::http::Method;
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::client::{Asked, Body, Client, CredentialsError, Encryption, Target, Unanswered};

/// How long a node may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// The options of `status`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Write it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) asked: Asked,
}

/// The options of `health`.
#[derive(Debug, Args)]
pub(crate) struct HealthOptions {
    /// The node to ask, as `http://HOST:PORT` or `https://HOST:PORT`.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8001")]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) encryption: Encryption,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    #[error("the answer cannot be understood")]
    Answer(#[from] serde_json::Error),
    #[error("the status cannot be written")]
    Output(#[from] io::Error),
}

/// What a node says of itself and the others.
#[derive(Debug, Clone, Deserialize)]
struct Answered {
    node: String,
    raft: Raft,
    nodes: Vec<Listed>,
}

#[derive(Debug, Clone, Deserialize)]
struct Raft {
    role: String,
    term: u64,
    leader: Option<String>,
    commit_index: u64,
    applied_index: u64,
    last_index: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct Listed {
    id: String,
    url: String,
    state: String,
}

/// One node, as it is shown. What only the node itself can say is missing where it did not answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    id: String,
    url: String,
    /// Whether it votes everywhere, or comes or leaves.
    state: String,
    answers: bool,
    role: Option<String>,
    term: Option<u64>,
    leader: Option<String>,
    commit_index: Option<u64>,
    applied_index: Option<u64>,
    last_index: Option<u64>,
}

/// Asks every node and writes what they say. The exit status is 0 where all answer and agree on a
/// leader, else 1.
///
/// # Errors
///
/// Where nobody answered, or the result could not be written.
pub(crate) async fn run(options: Options) -> Result<ExitCode, Error> {
    let client = Client::with_credentials(&options.asked.credentials)?;
    let first = ask(&client, &options.asked.targets).await?;
    let mut asked = JoinSet::new();
    for (place, node) in first.nodes.into_iter().enumerate() {
        let client = client.clone();
        asked.spawn(async move {
            let answered = match node.url.parse() {
                Ok(target) => ask(&client, &[target]).await.ok(),
                Err(_) => None,
            };
            // An address may lead to another node than it should.
            (place, Row::new(node.clone(), answered.filter(|answer| answer.node == node.id)))
        });
    }
    let mut rows = asked.join_all().await;
    rows.sort_by_key(|(place, _)| *place);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    let mut output = io::stdout().lock();
    if options.json {
        let text = serde_json::to_string_pretty(&rows).map_err(io::Error::from)?;
        writeln!(output, "{text}")?;
    } else {
        output.write_all(table(&rows).as_bytes())?;
    }
    Ok(if is_healthy(&rows) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks a node whether it serves.
///
/// # Errors
///
/// Where it does not.
pub(crate) async fn health(options: HealthOptions) -> Result<(), Error> {
    let client = Client::new(&options.encryption);
    let question = (Method::GET, "/healthz");
    client.ask_in_turn(ANSWER_MAX, &[options.target], question, Body::None).await?;
    Ok(())
}

/// What the first of the targets that answers says.
async fn ask(client: &Client, targets: &[Target]) -> Result<Answered, Error> {
    let question = (Method::GET, "/v1/status");
    let answer = client.ask_in_turn(ANSWER_MAX, targets, question, Body::None).await?;
    Ok(serde_json::from_slice(&answer)?)
}

impl Row {
    fn new(node: Listed, answered: Option<Answered>) -> Self {
        let raft = answered.map(|answered| answered.raft);
        Self {
            id: node.id,
            url: node.url,
            state: node.state,
            answers: raft.is_some(),
            term: raft.as_ref().map(|raft| raft.term),
            commit_index: raft.as_ref().map(|raft| raft.commit_index),
            applied_index: raft.as_ref().map(|raft| raft.applied_index),
            last_index: raft.as_ref().map(|raft| raft.last_index),
            leader: raft.as_ref().and_then(|raft| raft.leader.clone()),
            role: raft.map(|raft| raft.role),
        }
    }

    fn cells(&self) -> [String; 8] {
        let number = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
        [
            self.id.clone(),
            self.url.clone(),
            self.state.clone(),
            self.role.clone().unwrap_or_else(|| "no answer".to_owned()),
            number(self.term),
            number(self.commit_index),
            number(self.applied_index),
            number(self.last_index),
        ]
    }
}

/// Whether all nodes answer and follow one leader.
fn is_healthy(rows: &[Row]) -> bool {
    let leader = rows.first().and_then(|row| row.leader.as_deref());
    leader.is_some() && rows.iter().all(|row| row.answers && row.leader.as_deref() == leader)
}

/// Columns as wide as what stands in them.
fn table(rows: &[Row]) -> String {
    let head =
        ["NODE", "URL", "STATE", "ROLE", "TERM", "COMMIT", "APPLIED", "LAST"].map(str::to_owned);
    let lines: Vec<_> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let mut widths = [0; 8];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let padded = lines.iter().map(|line| {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    });
    padded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, leader: Option<&str>) -> Row {
        let raft = Raft {
            role: if leader == Some(id) { "leader" } else { "follower" }.to_owned(),
            term: 3,
            leader: leader.map(str::to_owned),
            commit_index: 1234,
            applied_index: 1233,
            last_index: 1235,
        };
        let state = "member".to_owned();
        let node = Listed { id: id.to_owned(), url: format!("http://{id}:8001"), state };
        let answered = Answered { node: id.to_owned(), raft, nodes: Vec::new() };
        Row::new(node, Some(answered))
    }

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let state = "joining".to_owned();
        let silent = Listed { id: "n10".to_owned(), url: "http://n10:8001".to_owned(), state };
        let rows = [row("n1", Some("n1")), Row::new(silent, None)];
        let expected = "NODE  URL              STATE    ROLE       TERM  COMMIT  APPLIED  LAST\n\
                        n1    http://n1:8001   member   leader     3     1234    1233     1235\n\
                        n10   http://n10:8001  joining  no answer  -     -       -        -\n";
        assert_eq!(table(&rows), expected);
    }

    #[test]
    fn a_cluster_is_healthy_where_all_nodes_answer_and_follow_one_leader() {
        assert!(is_healthy(&[row("n1", Some("n1")), row("n2", Some("n1"))]));
        assert!(!is_healthy(&[row("n1", Some("n1")), row("n2", Some("n2"))]));
        assert!(!is_healthy(&[row("n1", None), row("n2", None)]));
        let silent = Listed { id: "n2".to_owned(), url: String::new(), state: "member".to_owned() };
        assert!(!is_healthy(&[row("n1", Some("n1")), Row::new(silent, None)]));
        assert!(!is_healthy(&[]));
    }
}
