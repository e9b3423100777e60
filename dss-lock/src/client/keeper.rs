//! The task of a session: it keeps it alive, notices that it is lost, and gives back what guards
//! have let go.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::guard::LockLost;
use super::session::{Core, Hold, RETRY_AFTER, surely};
use crate::command::ReleaseRequest;
use crate::names::{LockName, OwnerId};
use crate::numbers::FencingToken;
use crate::service::{ReleaseError, SessionError, SessionInfo};

/// How many signs of life are tried in a time to live: one may be late and one lost.
const RENEWALS_PER_TTL: u32 = 3;

/// A lock to give back.
pub(super) struct Return {
    pub(super) owner: OwnerId,
    pub(super) lock: LockName,
    pub(super) token: FencingToken,
    /// Who wants to know what became of it.
    pub(super) done: Option<oneshot::Sender<Result<(), ReleaseError>>>,
}

/// Runs until nobody is left who could hand it anything.
pub(super) async fn keep(core: Arc<Core>, mut returns: mpsc::UnboundedReceiver<Return>) {
    let mut returning = JoinSet::new();
    let mut renewal = Box::pin(renew_again(Arc::clone(&core)));
    let mut lost = false;
    loop {
        tokio::select! {
            to_return = returns.recv() => match to_return {
                Some(to_return) => {
                    returning.spawn(give_back(Arc::clone(&core), to_return));
                }
                None => break,
            },
            () = &mut renewal, if !lost => lost = true,
            Some(_) = returning.join_next() => {}
        }
    }
    // Nobody waits for this, so it takes the time that the session has.
    let _ = timeout(core.options.ttl, async {
        while returning.join_next().await.is_some() {}
        if core.lost().is_none() {
            core.lose(LockLost::Closed);
            while let Err(SessionError::Service(_)) = core.locks.close(core.session().clone()).await
            {
                sleep(RETRY_AFTER).await;
            }
        }
    })
    .await;
}

/// Renews the session until it is lost.
async fn renew_again(core: Arc<Core>) {
    let interval = core.options.ttl / RENEWALS_PER_TTL;
    let mut next = Instant::now() + interval;
    loop {
        tokio::select! {
            reason = core.until_lost() => {
                core.lose(reason);
                return;
            }
            () = sleep_until(next) => {}
        }
        let sent = Instant::now();
        let renewed = tokio::select! {
            reason = core.until_lost() => {
                core.lose(reason);
                return;
            }
            renewed = timeout(interval, core.locks.renew(core.session().clone())) => renewed,
        };
        next = match renewed {
            Ok(Ok(info)) if info.opened == core.opened => {
                note_renewal(&core, sent, &info);
                sent + interval
            }
            // It has ended, and what bears its name is another.
            Ok(Ok(_) | Err(SessionError::Expired)) => {
                core.lose(LockLost::Expired);
                return;
            }
            Ok(Err(SessionError::Service(_))) | Err(_) => {
                Instant::now() + RETRY_AFTER.min(interval)
            }
        };
    }
}

fn note_renewal(core: &Core, sent: Instant, info: &SessionInfo) {
    // Time that had run out by then has run out: guards may have said so.
    let deadline = sent + surely(&core.options);
    core.life.send_if_modified(|life| {
        let alive = life.lost.is_none() && life.deadline > Instant::now();
        if alive {
            life.deadline = life.deadline.max(deadline);
        }
        alive
    });
    let holds: Vec<_> = {
        let holds = core.holds();
        let held = holds.values().filter_map(|hold| match hold {
            Hold::Held { held, .. } => held.upgrade(),
            Hold::Returning => None,
        });
        held.collect()
    };
    for held in holds {
        held.compare(sent, &info.tokens);
    }
}

/// Gives a lock back, as often as it takes to know that it is.
async fn give_back(core: Arc<Core>, to_return: Return) {
    let Return { owner, lock, token, done } = to_return;
    let request = ReleaseRequest {
        lock: lock.clone(),
        session: core.session().clone(),
        owner: owner.clone(),
        token: Some(token),
    };
    let mut tried = false;
    let released = loop {
        if core.lost().is_some() {
            // It goes with the session.
            break Err(ReleaseError::NotHolder);
        }
        match core.locks.release(request.clone()).await {
            Err(ReleaseError::Service(_)) => {
                tried = true;
                sleep(RETRY_AFTER.max(Duration::from_millis(1))).await;
            }
            // A try before this one may have done it.
            Err(ReleaseError::NotHolder) if tried => break Ok(()),
            released => break released,
        }
    };
    core.holds().remove(&(owner, lock));
    core.returned.notify_waiters();
    if let Some(done) = done {
        // Whoever asked may have stopped waiting.
        let _ = done.send(released);
    }
}
