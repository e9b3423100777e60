//! How a request to a Redis server fails.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a request to a Redis server has no answer that can be used. What matters is whether it may
/// have been executed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum RedisFailure {
    /// Surely not executed: the server cannot be reached, or does not serve yet.
    #[error("Redis server {server} is unavailable: {reason}")]
    NotExecuted { server: String, reason: String },
    /// Sent, and not answered: it may have been executed, or may still be.
    #[error("Redis server {server} did not answer: {reason}")]
    OutcomeUnknown { server: String, reason: String },
    /// The server answered with an error: a command by itself was not executed, a script up to
    /// the command that failed.
    #[error("Redis server {server} refused: {reason}")]
    Refused { server: String, reason: String },
}

impl RedisFailure {
    /// No connection to `server`.
    pub(super) fn unreachable(server: &str, reason: &str) -> Self {
        Self::NotExecuted { server: server.to_owned(), reason: reason.to_owned() }
    }

    /// What `error` says about a request that was sent to `server`.
    pub(super) fn after_sending(server: &str, error: &RedisError) -> Self {
        let (server, reason) = (server.to_owned(), one_line(error));
        match error.kind() {
            // These are said before a command is looked at.
            ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown) => {
                Self::NotExecuted { server, reason }
            }
            ErrorKind::Server(_) => Self::Refused { server, reason },
            ErrorKind::Extension if error.code().is_some_and(|code| code == "BUSY") => {
                Self::NotExecuted { server, reason }
            }
            // An error with a code that the client library does not know.
            ErrorKind::Extension => Self::Refused { server, reason },
            _ => Self::OutcomeUnknown { server, reason },
        }
    }
}

/// Whether the connection can be used after `error`: it is in step with the server.
pub(super) fn leaves_connection_usable(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType
    )
}

/// The message of an error, without line breaks.
pub(super) fn one_line(error: &RedisError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
