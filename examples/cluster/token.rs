//! Tokens, from the command line.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use axum::http::Method;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::{Credential, RandomnessError};
use crate::client::{ANSWER_MAX, Asked, Body, Client, CredentialsError, Unanswered};
use crate::config::Bootstrap;
use crate::control_group::Role;
use crate::private_file;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a token and shows it, this once.
    Create(Create),
    /// Shows every token, without its secret.
    List(Asked),
    /// Revokes a token: within a second no node takes it any more.
    Revoke(Revoke),
    /// Makes the first token, by which the others are made: into a file that only its owner can
    /// read. What the configuration has to say of it is written to standard output.
    Bootstrap(BootstrapArgs),
}

/// The options of `token create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What its owner may do.
    #[arg(long, value_enum)]
    role: Role,
    /// What people call it.
    #[arg(long)]
    name: String,
    /// After this time it is worth nothing: `90s`, `15m`, `12h`, `30d`.
    #[arg(long, value_name = "TIME")]
    expires: Option<Span>,
    #[command(flatten)]
    asked: Asked,
}

/// The options of `token revoke`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Its public part: what stands between the underscores.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    asked: Asked,
}

/// The options of `token bootstrap`.
#[derive(Debug, Args)]
pub(crate) struct BootstrapArgs {
    /// The file, which must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// A span of time with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(Duration);

/// What is not a [`Span`].
#[derive(Debug, thiserror::Error)]
#[error("a span of time looks like 90s, 15m, 12h or 30d")]
pub(crate) struct SpanError;

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let unit = text.chars().next_back().ok_or(SpanError)?;
        let seconds: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 60 * 60,
            'd' => 24 * 60 * 60,
            _ => return Err(SpanError),
        };
        let digits = &text[..text.len() - 1];
        let number: u64 = digits.parse().map_err(|_| SpanError)?;
        let seconds = number.checked_mul(seconds).filter(|seconds| *seconds > 0);
        seconds.map(|seconds| Self(Duration::from_secs(seconds))).ok_or(SpanError)
    }
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    #[error("the answer cannot be understood")]
    Answer(#[from] serde_json::Error),
    #[error("{} cannot be written", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    #[error("the result cannot be written")]
    Output(#[from] io::Error),
}

#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    role: String,
    name: String,
    created_at: String,
    expires_at: Option<String>,
    revoked_at: Option<String>,
    valid: bool,
}

/// Does it.
///
/// # Errors
///
/// Why it was not done.
pub(crate) async fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Create(Create { role, name, expires, asked }) => {
            let mut body = json!({ "role": role.as_str(), "name": name });
            if let Some(Span(span)) = expires {
                body["expires_in_ms"] = json!(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
            }
            let answer = ask(&asked, Method::POST, "/v1/tokens", Body::Json(body)).await?;
            let created: Value = serde_json::from_slice(&answer)?;
            let token = created["token"].as_str().unwrap_or_default();
            writeln!(io::stdout().lock(), "{token}")?;
            eprintln!("this is shown once; only a hash of it is kept");
        }
        Command::List(asked) => {
            let answer = ask(&asked, Method::GET, "/v1/tokens", Body::None).await?;
            let mut answer: Value = serde_json::from_slice(&answer)?;
            let tokens: Vec<Listed> = serde_json::from_value(answer["tokens"].take())?;
            io::stdout().lock().write_all(table(&tokens).as_bytes())?;
        }
        Command::Revoke(Revoke { id, asked }) => {
            let id = percent_encoding::utf8_percent_encode(&id, percent_encoding::NON_ALPHANUMERIC);
            ask(&asked, Method::DELETE, &format!("/v1/tokens/{id}"), Body::None).await?;
        }
        Command::Bootstrap(BootstrapArgs { out }) => {
            let credential = Credential::generate()?;
            write_secret(&out, credential.reveal())?;
            let bootstrap = Bootstrap { id: credential.id().to_owned(), secret: credential.hash() };
            let mut output = io::stdout().lock();
            writeln!(output, "[auth]\nenabled = true\nbootstrap = \"{bootstrap}\"")?;
        }
    }
    Ok(())
}

/// Writes a new file that only its owner can read.
fn write_secret(path: &Path, secret: &str) -> Result<(), Error> {
    private_file::write_new(path, format!("{secret}\n").as_bytes())
        .map_err(|error| Error::File(path.to_owned(), error))
}

async fn ask(asked: &Asked, method: Method, path: &str, body: Body) -> Result<bytes::Bytes, Error> {
    let client = Client::with_credentials(&asked.credentials)?;
    Ok(client.ask_in_turn(ANSWER_MAX, &asked.targets, (method, path), body).await?)
}

fn table(tokens: &[Listed]) -> String {
    let mut text = String::new();
    for token in tokens {
        let Listed { id, role, name, created_at, expires_at, revoked_at, valid } = token;
        let end = match (revoked_at, expires_at) {
            (Some(at), _) => format!("revoked {at}"),
            (None, Some(at)) if *valid => format!("expires {at}"),
            (None, Some(at)) => format!("expired {at}"),
            (None, None) => "valid".to_owned(),
        };
        // A name may hold what would move the cursor or turn the line around.
        let name = name.escape_debug();
        text.push_str(&format!("{id}  {role:<6}  made {created_at}  {end}  {name}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_unit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000)] {
            assert_eq!(text.parse::<Span>().unwrap(), Span(Duration::from_secs(seconds)));
        }
        for text in ["", "30", "d", "-1d", "0s", "1w", "1.5h", "ä", "99999999999999999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_is_written_to_a_new_file_that_only_its_owner_reads() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write_secret(&path, "dss_a_b").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "dss_a_b\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_secret(&path, "dss_c_d").is_err(), "it does not replace one");
    }
}
