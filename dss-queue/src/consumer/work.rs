//! One delivery, from its arrival to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::lease::{Keeper, Lease};
use super::{Phase, Shared, Verdict};
use crate::broker::BrokerError;
use crate::command::Settled;
use crate::message::Delivery;

/// The pause after a failed attempt to settle.
const SETTLE_PAUSE: Duration = Duration::from_millis(100);

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    Returned,
    HandedBack,
    Lost,
    Unsettled,
}

/// What the queue is to be told.
#[derive(Debug, Clone, Copy)]
enum Word {
    Ack,
    Nack(Duration),
    HandBack,
}

/// Keeps the lease, waits for its turn, runs the handler and settles.
pub(super) async fn work<H, F>(
    shared: Arc<Shared>,
    handler: Arc<H>,
    delivery: Delivery,
    permits: Arc<Semaphore>,
    phases: watch::Receiver<Phase>,
) -> Fate
where
    H: Fn(Delivery, Lease) -> F + Send + Sync + 'static,
    F: Future<Output = Verdict> + Send + 'static,
{
    let (keeper, lease) = Keeper::new(delivery.receipt, shared.visibility);
    let receipt = delivery.receipt;
    let handled = async {
        let Some(word) = handle(&shared, handler, delivery, &lease, &permits, phases).await else {
            return Fate::Lost;
        };
        // Only a lease that is kept can be settled with patience.
        let mut fate = Fate::Unsettled;
        loop {
            match shared.tell(word, receipt).await {
                Ok(settled) if settled.done == 1 => {
                    fate = match word {
                        Word::Ack => Fate::Done,
                        Word::Nack(_) => Fate::Returned,
                        Word::HandBack => Fate::HandedBack,
                    };
                }
                Ok(_) | Err(BrokerError::NotFound) => fate = Fate::Lost,
                Err(_) if !lease.is_lost() => {
                    tokio::time::sleep(SETTLE_PAUSE).await;
                    continue;
                }
                Err(_) => {}
            }
            return fate;
        }
    };
    tokio::select! {
        fate = handled => fate,
        () = keeper.keep(&shared) => Fate::Lost,
    }
}

/// What to tell the queue; nothing where the lease was lost before the handler began.
async fn handle<H, F>(
    shared: &Shared,
    handler: Arc<H>,
    delivery: Delivery,
    lease: &Lease,
    permits: &Semaphore,
    mut phases: watch::Receiver<Phase>,
) -> Option<Word>
where
    H: Fn(Delivery, Lease) -> F + Send + Sync + 'static,
    F: Future<Output = Verdict> + Send + 'static,
{
    let _permit = tokio::select! {
        biased;
        _ = phases.wait_for(|phase| *phase >= Phase::Draining) => return Some(Word::HandBack),
        () = lease.lost() => return None,
        permit = permits.acquire() => permit,
    };
    let pause = shared.retry.pause(delivery.id.sequence(), delivery.attempt);
    // In a task of its own, which ends with this future: a panic is the handler's alone.
    let mut task = JoinSet::new();
    let lease = lease.clone();
    task.spawn(async move { handler(delivery, lease).await });
    let verdict = tokio::select! {
        verdict = task.join_next() => verdict,
        _ = phases.wait_for(|phase| *phase == Phase::CutOff) => {
            task.abort_all();
            return Some(Word::Nack(Duration::ZERO));
        }
    };
    Some(match verdict {
        Some(Ok(Verdict::Done)) => Word::Ack,
        Some(Ok(Verdict::RetryAfter(pause))) => Word::Nack(pause),
        Some(Ok(Verdict::Retry) | Err(_)) | None => Word::Nack(pause),
    })
}

impl Shared {
    async fn tell(&self, word: Word, receipt: crate::id::Receipt) -> Result<Settled, BrokerError> {
        let (broker, topic, group, receipts) =
            (&self.broker, &self.topic, &self.group, vec![receipt]);
        match word {
            Word::Ack => broker.ack(topic, group, receipts).await,
            Word::Nack(delay) => broker.nack(topic, group, receipts, delay).await,
            Word::HandBack => broker.hand_back(topic, group, receipts).await,
        }
    }
}
