//! Audit logs, from the command line.

use std::io::{self, Write as _};
use std::path::PathBuf;

use axum::http::Method;
use clap::{Args, Subcommand};
use serde::Deserialize;

use crate::audit::{Head, Verified, VerifyError, verify};
use crate::client::{ANSWER_MAX, Body, Client, Credentials, CredentialsError, Target, Unanswered};

/// What to do with an audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Finds what was done to a log: a line that was changed, removed, put elsewhere or added, and,
    /// with what the cluster knows, lines that were cut off its end. Exit status 1 if anything was.
    Verify(Verify),
}

/// The options of `audit verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A file of the log, with those that follow it; or the folder that they are in.
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// The key of the log; `audit.key` beside it where left out.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// An entry that the log must have, as `<sequence>:<mac>`.
    #[arg(long, value_name = "HEAD")]
    head: Option<Head>,
    /// A node that is asked which entry the log must have, or several.
    #[arg(
        long = "target",
        value_name = "URL[,URL…]",
        value_delimiter = ',',
        conflicts_with = "head"
    )]
    targets: Vec<Target>,
    #[command(flatten)]
    credentials: Credentials,
}

/// Why a log is not verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("no node says which entries there must be")]
    NoHead(#[source] Unanswered),
    #[error("what a node says of the entries cannot be understood")]
    Answer(#[from] serde_json::Error),
    #[error(
        "the cluster knows no log of {node} with the chain {chain}: it is younger than a second, or \
         another cluster's"
    )]
    UnknownChain { node: String, chain: String },
    #[error("the result cannot be written")]
    Output(#[from] io::Error),
}

#[derive(Debug, Deserialize)]
struct Known {
    heads: Vec<KnownHead>,
}

#[derive(Debug, Deserialize)]
struct KnownHead {
    node: String,
    chain: String,
    sequence: u64,
    mac: String,
}

/// Does it.
///
/// # Errors
///
/// What is wrong with the log, or why that cannot be said.
pub(crate) async fn run(Command::Verify(options): Command) -> Result<(), Error> {
    let Verify { path, key_file, head, targets, credentials } = options;
    let key_file = key_file.as_deref();
    let mut verified = verify(&path, key_file, head)?;
    let (mut known, mut others) = (head.is_some(), Vec::new());
    if !targets.is_empty() {
        let heads = heads(&targets, &credentials).await?;
        // A file says itself whose log it is, and the key vouches for that.
        let head = head_of(&verified, &heads).ok_or_else(|| Error::UnknownChain {
            node: verified.node.clone(),
            chain: verified.chain.clone(),
        })?;
        verified = verify(&path, key_file, Some(head))?;
        known = true;
        others = heads;
    }
    let Verified { node, chain, first, last, is_unfinished } = verified;
    let mut output = io::stdout().lock();
    writeln!(output, "{node}: entries {first} to {last} are as they were written (chain {chain})")?;
    if is_unfinished {
        writeln!(output, "the last line is not whole: it is being written, or a crash cut it off")?;
    }
    for other in others.iter().filter(|head| head.node == node && head.chain != chain) {
        let KnownHead { chain, sequence, .. } = other;
        writeln!(output, "{node} has another log, of {sequence} entries or more (chain {chain})")?;
    }
    if !known {
        writeln!(output, "whether later ones were cut off, only the cluster knows: see --target")?;
    }
    Ok(())
}

fn head_of(verified: &Verified, heads: &[KnownHead]) -> Option<Head> {
    let of_chain = |head: &&KnownHead| head.node == verified.node && head.chain == verified.chain;
    let KnownHead { sequence, mac, .. } = heads.iter().find(of_chain)?;
    format!("{sequence}:{mac}").parse().ok()
}

/// What the first target that answers knows.
async fn heads(targets: &[Target], credentials: &Credentials) -> Result<Vec<KnownHead>, Error> {
    let client = Client::with_credentials(credentials)?;
    let question = (Method::GET, "/v1/audit?limit=1");
    let answer = client.ask_in_turn(ANSWER_MAX, targets, question, Body::None).await;
    let Known { heads } = serde_json::from_slice(&answer.map_err(Error::NoHead)?)?;
    Ok(heads)
}
