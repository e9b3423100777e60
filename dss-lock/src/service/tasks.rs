//! What runs beside the requests: events, reigns, expiries and time-outs.

use std::sync::Arc;
use std::time::Duration;

use dss_raft::{ReadError, RoleKind, Term};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, sleep_until};

use super::error::ServiceError;
use super::reign::{Inner, Reign};
use crate::command::Command;
use crate::machine::LockEvents;
use crate::numbers::ClusterTime;
use crate::reply::Event;

/// Between two tries of what could not be done just now.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// The longest sleep towards a deadline: a wait may last longer than a clock can say.
const SLEEP_MAX: Duration = Duration::from_secs(60 * 60);

/// The tasks of one service; they end with it, or with its group.
pub(super) struct Tasks {
    handles: Vec<AbortHandle>,
}

impl Tasks {
    pub(super) fn spawn(inner: &Arc<Inner>, events: LockEvents) -> Self {
        let LockEvents { events, deadline, .. } = events;
        let handles = vec![
            tokio::spawn(handle_events(Arc::clone(inner), events)).abort_handle(),
            tokio::spawn(follow_leadership(Arc::clone(inner))).abort_handle(),
            tokio::spawn(expire_sessions(Arc::clone(inner))).abort_handle(),
            tokio::spawn(time_out_waits(Arc::clone(inner), deadline)).abort_handle(),
        ];
        Self { handles }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for handle in &self.handles {
            handle.abort();
        }
    }
}

/// Notes the signs of life that came through the log.
async fn handle_events(inner: Arc<Inner>, mut events: mpsc::UnboundedReceiver<Event>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::SessionRenewed { session, ttl, renewal } => {
                let now = inner.now();
                inner.with_leases(|leases| leases.handle_renewed(now, &session, ttl, renewal));
            }
            Event::SessionEnded { session, renewal } => {
                inner.with_leases(|leases| leases.handle_ended(&session, renewal));
            }
            // The machine tells those who wait by itself.
            Event::WaitEnded { .. } | Event::Revoked { .. } => {}
        }
    }
}

/// Begins and ends the reigns of this node.
async fn follow_leadership(inner: Arc<Inner>) {
    let mut changes = inner.group.leadership();
    loop {
        let leadership = *changes.borrow_and_update();
        inner.reign.send_replace(None);
        inner.with_leases(crate::leases::Leases::end);
        if leadership.role == RoleKind::Leader {
            tokio::select! {
                // The reign may end before it has begun.
                changed = changes.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                begun = begin_reign(&inner, leadership.term) => {
                    inner.reign.send_replace(begun);
                }
            }
        }
        if changes.changed().await.is_err() {
            inner.reign.send_replace(None);
            return;
        }
    }
}

/// Learns where the cluster stands, which takes a round to the others and the end of what earlier
/// leaders had begun. `None` where the group has stopped.
async fn begin_reign(inner: &Arc<Inner>, term: Term) -> Option<Reign> {
    loop {
        let keeper = Arc::clone(inner);
        let read = inner.group.read(move |machine| {
            let table = machine.table();
            // Between two commands, so that no session that one of them opens or ends is missed.
            let (now, leadership) = (keeper.now(), keeper.leadership());
            if leadership.role == RoleKind::Leader && leadership.term == term {
                keeper.with_leases(|leases| leases.begin(now, table.sessions()));
            }
            table.now()
        });
        match read.await {
            Ok(base) => return Some(Reign::begin(term, base)),
            Err(ReadError::NoLeader | ReadError::Overloaded) => sleep(RETRY_AFTER).await,
            Err(_) => return None,
        }
    }
}

/// Proposes the end of sessions that nothing has been heard of.
async fn expire_sessions(inner: Arc<Inner>) {
    loop {
        let deadline = inner.with_leases(|leases| leases.poll_timeout());
        let due = async {
            match deadline {
                Some(deadline) => sleep_until(inner.instant(deadline)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = inner.leases_changed.notified() => continue,
        }
        let Some(reign) = *inner.reign.borrow() else {
            // Either it begins in a moment, or the leases end.
            sleep(RETRY_AFTER).await;
            continue;
        };
        let now = inner.now();
        let sessions = inner.with_leases(|leases| leases.take_expired(now));
        if sessions.is_empty() {
            continue;
        }
        let command = Command::Expire { sessions: sessions.clone() };
        match inner.propose(&reign, command).await {
            // What came of it, an event tells; where it is unknown the reign has ended.
            Ok(_) | Err(ServiceError::OutcomeUnknown) => {}
            Err(_) => {
                let now = inner.now();
                inner.with_leases(|leases| leases.handle_not_proposed(now, sessions));
            }
        }
    }
}

/// Lets time pass when the next wait is due and nobody else does.
async fn time_out_waits(inner: Arc<Inner>, mut deadlines: watch::Receiver<Option<ClusterTime>>) {
    let mut reigns = inner.reign.subscribe();
    loop {
        let deadline = *deadlines.borrow_and_update();
        let reign = *reigns.borrow_and_update();
        let due = async {
            match (reign, deadline) {
                (Some(reign), Some(deadline)) => {
                    sleep(reign.until(deadline).min(SLEEP_MAX)).await;
                    (reign, deadline)
                }
                _ => std::future::pending().await,
            }
        };
        let (reign, deadline) = tokio::select! {
            due = due => due,
            changed = deadlines.changed() => match changed {
                Ok(()) => continue,
                // The machine has gone.
                Err(_) => return,
            },
            changed = reigns.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let due = reign.until(deadline).is_zero();
        if due && inner.propose(&reign, Command::Tick).await.is_err() {
            sleep(RETRY_AFTER).await;
        }
    }
}
