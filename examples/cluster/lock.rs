//! Runs a command while it holds a lock.
//!
//! ```text
//!   lock nightly-backup -- sh -c 'backup --fencing-token "$DSS_FENCING_TOKEN"'
//! ```
//!
//! The command finds in its environment:
//!
//! | variable | value |
//! | --- | --- |
//! | `DSS_LOCK` | the lock's name |
//! | `DSS_FENCING_TOKEN` | the number of the grant: hand it to what the lock protects |
//! | `DSS_SESSION` | the session that holds the lock |
//!
//! It runs in a process group of its own, all of which is killed when the lock is lost, or when it
//! is not known any more to be held: SIGTERM, and SIGKILL after `--grace-ms`. SIGTERM and Ctrl-C
//! are passed on to it. Where standard input is a terminal, the command stays in the terminal's
//! group, since no other may read from it, and only the command's first process is killed. No such
//! program can promise more: it may itself be paused when the lock is lost, or killed before the
//! command is; the token is what stops a command that runs on.
//!
//! The exit status is the command's; 128 and the signal's number where a signal ended it; 75 where
//! the lock could not be had; 76 where it was lost; 126 and 127 where the command could not be
//! run or found, as with a shell; 130 where it was interrupted before it had the lock.

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use dss_lock::{
    AcquireError, LockGuard, LockLost, LockName, LockSession, SessionError, SessionId,
    SessionOptions,
};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::client::{Asked, Client, CredentialsError, HttpLocks};
use crate::http::Names;
use crate::signals::StopSignals;

/// How long giving the lock back may take. It expires by itself with its session.
const RETURN_MAX: Duration = Duration::from_secs(3);

/// What a shell reports for a process that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// The options of `lock`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The lock's name.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// What to run under the lock, after `--`.
    #[arg(value_name = "COMMAND", last = true, required = true)]
    pub(crate) command: Vec<OsString>,
    /// Hold it together with others that do so.
    #[arg(long)]
    pub(crate) shared: bool,
    /// Do not wait for it.
    #[arg(long = "try", conflicts_with = "wait_ms")]
    pub(crate) once: bool,
    /// Wait no longer than this for it; without end where left out.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub(crate) wait_ms: Option<u64>,
    /// For how long the lock stays taken when this machine dies.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1_000..=86_400_000))]
    pub(crate) ttl_ms: u64,
    /// How long the command has from SIGTERM to SIGKILL when the lock is lost.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub(crate) grace_ms: u64,
    /// The session's name, which nobody else may use at the same time; a new one where left out.
    #[arg(long, value_name = "NAME")]
    pub(crate) session: Option<String>,
    #[command(flatten)]
    pub(crate) asked: Asked,
}

/// Why the exit status is not the command's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("{0}: {1}")]
    Name(&'static str, String),
    #[error("no session could be opened")]
    Session(#[source] SessionError),
    #[error("the lock was not granted")]
    Acquire(#[source] AcquireError),
    #[error("the cluster refuses it: {0}")]
    Refused(String),
    #[error("the lock was lost, and the command killed")]
    Lost(#[source] LockLost),
    #[error("{} cannot be run", .0.display())]
    Command(OsString, #[source] io::Error),
}

impl Error {
    /// The exit status that tells of it.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Credentials(_) | Self::Name(..) => 2,
            Self::Session(_) | Self::Acquire(_) | Self::Refused(_) => 75,
            Self::Lost(_) => 76,
            Self::Command(_, error) if error.kind() == ErrorKind::NotFound => 127,
            Self::Command(..) => 126,
        }
    }
}

/// Runs the command, and gives the exit status.
///
/// # Errors
///
/// Where it did not run, or not to its end.
pub(crate) async fn run(options: Options, mut stop: StopSignals) -> Result<u8, Error> {
    let lock = LockName::new(options.name.clone())
        .map_err(|error| Error::Name("NAME", error.to_string()))?;
    let name = options.session.clone().unwrap_or_else(|| format!("lock-{}", Names::random()));
    let name = SessionId::new(name).map_err(|error| Error::Name("--session", error.to_string()))?;
    let session = SessionOptions::new(name).ttl(Duration::from_millis(options.ttl_ms));
    let client = Client::with_credentials(&options.asked.credentials)?;
    let locks = Arc::new(HttpLocks::new(client, options.asked.targets.clone()));
    let session = tokio::select! {
        opened = LockSession::open(locks.clone(), session) => opened.map_err(Error::Session)?,
        reason = locks.refused() => return Err(Error::Refused(reason)),
        () = stop.next() => return Ok(INTERRUPTED),
    };
    let result = tokio::select! {
        guard = acquire(&session, lock, &options) => guard.map_err(Error::Acquire),
        reason = locks.refused() => Err(Error::Refused(reason)),
        () = stop.next() => {
            close(session).await;
            return Ok(INTERRUPTED);
        }
    };
    let result = match result {
        Ok(guard) => run_under(&guard, &session, &options, &mut stop).await,
        Err(error) => Err(error),
    };
    close(session).await;
    result
}

/// With its session the lock goes too.
async fn close(session: LockSession) {
    if !matches!(timeout(RETURN_MAX, session.close()).await, Ok(Ok(()))) {
        tracing::warn!("nobody could be told that the lock is free: it expires");
    }
}

async fn acquire(
    session: &LockSession,
    lock: LockName,
    options: &Options,
) -> Result<LockGuard, AcquireError> {
    let request = session.lock(lock);
    let request = if options.shared { request.shared() } else { request.exclusive() };
    match options.wait_ms {
        _ if options.once => request.try_acquire().await,
        Some(wait) => request.timeout(Duration::from_millis(wait)).acquire().await,
        None => request.acquire().await,
    }
}

async fn run_under(
    guard: &LockGuard,
    session: &LockSession,
    options: &Options,
    stop: &mut StopSignals,
) -> Result<u8, Error> {
    let (program, arguments) = options.command.split_first().expect("a command is required");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("DSS_LOCK", &options.name)
        .env("DSS_FENCING_TOKEN", guard.token().to_string())
        .env("DSS_SESSION", session.name().as_str())
        .kill_on_drop(true);
    let failed = |error| Error::Command(program.clone(), error);
    let mut running = Running::start(command, !io::stdin().is_terminal()).map_err(failed)?;
    loop {
        tokio::select! {
            biased;
            lost = guard.lost() => {
                running.kill(Duration::from_millis(options.grace_ms)).await;
                return Err(Error::Lost(lost));
            }
            ended = running.child.wait() => {
                return Ok(exit_status(ended.map_err(failed)?));
            }
            () = stop.next() => running.signal(Signal::TERM),
        }
    }
}

/// A command that runs.
struct Running {
    child: Child,
    /// Its process group, where that is its own. It outlives its first process, as long as another
    /// one is in it.
    group: Option<Pid>,
}

impl Running {
    fn start(mut command: Command, has_group: bool) -> io::Result<Self> {
        if has_group {
            command.process_group(0);
        }
        let child = command.spawn()?;
        let group = if has_group { child.id().and_then(pid) } else { None };
        Ok(Self { child, group })
    }

    /// Ends all of the command, which has lost its lock.
    async fn kill(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        tokio::select! {
            _ended = self.child.wait() => {}
            () = sleep(grace) => {}
        }
        // Whatever it has started may still be there, and does not get more time than it had.
        self.signal(Signal::KILL);
        // It is killed: the wait is short, and says nothing that matters.
        let _ = self.child.wait().await;
    }

    fn signal(&self, signal: Signal) {
        let sent = match (self.group, self.child.id().and_then(pid)) {
            (Some(group), _) => kill_process_group(group, signal),
            (None, Some(process)) => kill_process(process, signal),
            (None, None) => return,
        };
        // A group of which nobody is left cannot be told anything.
        if let Err(error) = sent {
            tracing::debug!("the command cannot be signalled: {error}");
        }
    }
}

fn pid(id: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(id).ok()?)
}

/// As a shell reports it.
fn exit_status(status: ExitStatus) -> u8 {
    let of_signal = || 128 + status.signal().unwrap_or_default();
    u8::try_from(status.code().unwrap_or_else(of_signal)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_is_what_a_shell_would_report() {
        for (raw, expected) in [(0, 0), (3 << 8, 3), (255 << 8, 255), (9, 137), (15, 143)] {
            assert_eq!(exit_status(ExitStatus::from_raw(raw)), expected, "{raw}");
        }
    }
}
