//! Acquiring: proposing, waiting, and finding out what became of it when leadership was lost.

use std::time::Duration;

use dss_raft::ReadError;
use tokio::time::{Instant, sleep_until, timeout};

use super::LockService;
use super::claim::Claim;
use super::error::{AcquireError, ServiceError};
use super::reign::Inner;
use crate::command::{AcquireAllRequest, AcquireRequest, Command, Mode, Wait};
use crate::names::{LockName, Owner, RequestId};
use crate::numbers::AttemptId;
use crate::reply::{Grant, Outcome, Reply};
use crate::views::Found;

/// How long an operation whose outcome is unknown looks for a leader that can tell: a few
/// elections. After that the caller is told that it is unknown.
pub(super) const RECOVERY_MAX: Duration = Duration::from_secs(5);

/// How often a wait on a node that does not lead any more is asked about. It learns of its end by
/// itself, from the log; to ask finds out when the node no longer gets the log, or has got a
/// snapshot in its place.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// For how long no leader may be found to ask before such a wait is given up: six times what an
/// election takes at its worst.
const UNHEARD_MAX: Duration = Duration::from_secs(30);

/// How long the event of an end that is already in the table may take to come through: from one
/// task of this process to another.
const EVENT_MAX: Duration = Duration::from_millis(50);

impl LockService {
    /// Asks for a lock, and waits for it as long as the request says.
    ///
    /// The time is the cluster's, which stands still while there is no leader. A session is not
    /// kept alive by waiting: renew one that waits longer than it lives.
    ///
    /// Dropping the future takes the request back: it leaves the queue, and a grant that came
    /// first is released.
    ///
    /// # Errors
    ///
    /// Each request ends in a grant or in exactly one [`AcquireError`].
    pub async fn acquire(&self, request: AcquireRequest) -> Result<Grant, AcquireError> {
        let (locks, owner) = (vec![request.lock.clone()], request.owner());
        let request_id = request.request_id.clone();
        // A reader may be let in where a writer has to wait.
        let may_be_deferred = request.mode == Mode::Exclusive && request.wait != Wait::Try;
        let command = |attempt| Command::Acquire { attempt, request };
        match self.ask(locks, owner, request_id, command, may_be_deferred).await? {
            Outcome::Granted(grant) => Ok(grant),
            outcome => Err(refusal(outcome)),
        }
    }

    /// Asks for several locks, which are granted together or not at all, and waits for them as
    /// long as the request says; otherwise like [`acquire`](LockService::acquire). The grants come
    /// in the order of the locks' names.
    ///
    /// # Errors
    ///
    /// Each request ends in the grants or in exactly one [`AcquireError`].
    pub async fn acquire_all(
        &self,
        request: AcquireAllRequest,
    ) -> Result<Vec<Grant>, AcquireError> {
        let mut locks: Vec<_> = request.locks.iter().map(|(lock, _)| lock.clone()).collect();
        locks.sort();
        locks.dedup();
        let (owner, request_id) = (request.owner(), request.request_id.clone());
        let command = |attempt| Command::AcquireAll { attempt, request };
        match self.ask(locks, owner, request_id, command, false).await? {
            Outcome::GrantedAll(grants) => Ok(grants),
            // Found again of a request for several that names one.
            Outcome::Granted(grant) => Ok(vec![grant]),
            outcome => Err(refusal(outcome)),
        }
    }

    async fn ask(
        &self,
        locks: Vec<LockName>,
        owner: Owner,
        request_id: Option<RequestId>,
        command: impl FnOnce(AttemptId) -> Command,
        may_be_deferred: bool,
    ) -> Result<Outcome, ServiceError> {
        let inner = &self.inner;
        let reign = inner.reign().await?;
        let is_deferred =
            may_be_deferred && locks.iter().all(|lock| inner.deferral.is_queued_for(lock));
        let mut claim = Claim::new(inner, reign, locks, owner, request_id);
        let command = command(claim.withdrawal.attempt);
        let proposed = if is_deferred {
            inner.propose_deferred(&reign, command).await
        } else {
            inner.propose(&reign, command).await
        };
        let ended = match proposed {
            Ok(Reply::Ended(outcome)) => Ok(outcome),
            Ok(Reply::Waiting) => wait(inner, &mut claim).await,
            Ok(_) => Err(ServiceError::Unavailable),
            Err(ServiceError::OutcomeUnknown) => recover(inner, &mut claim).await,
            Err(error) => Err(error),
        };
        // Where nobody knows, it is taken back as soon as somebody can; a repeat with the same
        // request id that comes first keeps it.
        if ended != Err(ServiceError::OutcomeUnknown) {
            claim.settle();
        }
        ended
    }
}

fn refusal(outcome: Outcome) -> AcquireError {
    match outcome {
        Outcome::Held { holders } => AcquireError::Held { holders },
        Outcome::TimedOut => AcquireError::TimedOut,
        Outcome::Deadlock { cycle } => AcquireError::Deadlock { cycle },
        Outcome::OwnerBusy => AcquireError::OwnerBusy,
        Outcome::SessionExpired => AcquireError::SessionExpired,
        Outcome::Cancelled => AcquireError::Cancelled,
        Outcome::AlreadyHolds { lock } => AcquireError::AlreadyHolds { lock },
        Outcome::Refused(limit) => AcquireError::Limit(limit),
        // An answer to another kind of request, which had the same id.
        Outcome::Granted(_) | Outcome::GrantedAll(_) => ServiceError::Unavailable.into(),
    }
}

/// Waits for the event that ends the wait. On the leader that is sure to come; elsewhere it comes
/// while the node is in touch with the others, which is looked after.
async fn wait(inner: &Inner, claim: &mut Claim) -> Result<Outcome, ServiceError> {
    // One that waits for several locks may be let past.
    let _noted = match &claim.withdrawal.locks[..] {
        [lock] => Some(inner.deferral.note_wait(lock.clone())),
        _ => None,
    };
    let mut reigns = inner.reign.subscribe();
    let mut heard = Instant::now();
    loop {
        let reigning = reigns.borrow_and_update().is_some();
        if reigning {
            heard = Instant::now();
        }
        let probe_at = Instant::now() + PROBE_INTERVAL;
        tokio::select! {
            biased;
            outcome = &mut claim.ended => return outcome.map_err(|_| ServiceError::Unavailable),
            changed = reigns.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Err(ServiceError::OutcomeUnknown),
            },
            () = sleep_until(probe_at), if !reigning => {}
        }
        match timeout(PROBE_INTERVAL, claim.look_up()).await {
            Ok(Ok(Found::Waiting)) => heard = Instant::now(),
            Ok(Ok(Found::Ended(outcome))) => return Ok(outcome),
            Ok(Ok(Found::Nothing)) => return missed(claim).await,
            Ok(Err(ReadError::NoLeader | ReadError::Overloaded)) | Err(_) => {
                if heard.elapsed() > UNHEARD_MAX {
                    return Err(ServiceError::OutcomeUnknown);
                }
            }
            Ok(Err(_)) => return Err(ServiceError::OutcomeUnknown),
        }
    }
}

/// The table does not know the wait any more: its end is on its way as an event, unless it was
/// among what a snapshot has replaced.
async fn missed(claim: &mut Claim) -> Result<Outcome, ServiceError> {
    match timeout(EVENT_MAX, &mut claim.ended).await {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(_)) | Err(_) => Err(ServiceError::OutcomeUnknown),
    }
}

/// Leadership was lost before it was known whether the acquire is in the log for good. The next
/// leader knows.
async fn recover(inner: &Inner, claim: &mut Claim) -> Result<Outcome, ServiceError> {
    let super::Withdrawal { attempt, locks, owner } = claim.withdrawal.clone();
    let request_id = claim.request_id.clone();
    let find =
        move |table: &crate::LockTable| table.find(attempt, &locks, &owner, request_id.as_ref());
    match inner.read_after_reign(&claim.reign, RECOVERY_MAX, find).await {
        Some(Found::Waiting) => wait(inner, claim).await,
        Some(Found::Ended(outcome)) => Ok(outcome),
        // It was lost, or has ended without a grant. Where no event tells which, there is nothing
        // left of it either way, and it may be asked again elsewhere.
        Some(Found::Nothing) => match timeout(EVENT_MAX, &mut claim.ended).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) | Err(_) => Err(inner.not_leader()),
        },
        None => Err(ServiceError::OutcomeUnknown),
    }
}
