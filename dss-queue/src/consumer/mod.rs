//! A loop around a handler: receive, keep, handle, settle.

mod lease;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::broker::{Broker, BrokerError, ReceiveRequest};
use crate::command::Settled;
use crate::id::Receipt;
use crate::limits::RECEIVE_MESSAGES_MAX;
use crate::message::Delivery;
use crate::name::{ConsumerName, GroupName, TopicName};
use crate::settings::Backoff;
use work::{Fate, work};

pub use lease::Lease;

/// How long what was cut off may take to hand its messages back.
const CUT_OFF_MAX: Duration = Duration::from_secs(2);

/// Handles the messages of a group, several at a time.
///
/// While a handler works, its lease is extended in the background. What it answers settles the
/// message; a handler that panics has failed like any other. What fails comes back after a pause
/// that doubles with each attempt, with jitter.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use dss_queue::{Broker, Consumer, ConsumerName, GroupName, TopicName, Verdict};
/// # async fn run(broker: Arc<dyn Broker>) -> Result<(), Box<dyn std::error::Error>> {
/// let (orders, billing) = (TopicName::new("orders")?, GroupName::new("billing")?);
/// let consumer = Consumer::new(broker, orders, billing, ConsumerName::new("worker-7")?);
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let tally = consumer
///     .concurrency(16)
///     .run(
///         |delivery, lease| async move {
///             println!("{} for the {}. time", delivery.id, delivery.attempt);
///             if lease.is_lost() { Verdict::Retry } else { Verdict::Done }
///         },
///         // Ends with what `stop` is told, or with it.
///         async { drop(stopped.await) },
///     )
///     .await?;
/// # drop(stop);
/// println!("{} done", tally.done);
/// # Ok(())
/// # }
/// ```
pub struct Consumer {
    shared: Shared,
    concurrency: usize,
    prefetch: usize,
    wait: Duration,
    drain: Duration,
}

/// What a handler makes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is done, for good.
    Done,
    /// It is to be tried again, after the consumer's pause for this attempt.
    Retry,
    /// It is to be tried again after this long.
    RetryAfter(Duration),
}

/// What became of the deliveries of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Tally {
    /// Handled and acknowledged.
    pub done: u64,
    /// Returned for another attempt, where one was left.
    pub returned: u64,
    /// Handed back unstarted, without an attempt counted.
    pub handed_back: u64,
    /// Settled by nobody: the lease was over before.
    pub lost: u64,
    /// Nobody could be reached to settle them: they come back when their lease ends.
    pub unsettled: u64,
}

/// What the tasks of a consumer have in common.
struct Shared {
    broker: Arc<dyn Broker>,
    topic: TopicName,
    group: GroupName,
    name: ConsumerName,
    visibility: Duration,
    retry: Backoff,
}

/// How far a consumer is with ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Working,
    /// Nothing new is started.
    Draining,
    /// Nothing is waited for.
    CutOff,
}

impl Consumer {
    /// A consumer of a group. It handles one message at a time, keeps each under a lease of 30
    /// seconds, waits up to 20 seconds for the next one, pauses from 1 second to 5 minutes after a
    /// failure, and gives its handlers 30 seconds when it is stopped.
    #[must_use]
    pub fn new(
        broker: Arc<dyn Broker>,
        topic: TopicName,
        group: GroupName,
        name: ConsumerName,
    ) -> Self {
        let retry = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(5 * 60) };
        let visibility = Duration::from_secs(30);
        let shared = Shared { broker, topic, group, name, visibility, retry };
        let (wait, drain) = (Duration::from_secs(20), Duration::from_secs(30));
        Self { shared, concurrency: 1, prefetch: 0, wait, drain }
    }

    /// Runs up to so many handlers at a time; at least 1.
    #[must_use]
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers.max(1);
        self
    }

    /// Takes so many messages more than are handled, so that a handler that ends finds the next
    /// one there. They are leased, and handed back unstarted when the consumer stops.
    #[must_use]
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.prefetch = messages;
        self
    }

    /// Leases messages for this long at a time; it is also how long a message is unavailable after
    /// its consumer has crashed.
    #[must_use]
    pub fn visibility(mut self, visibility: Duration) -> Self {
        self.shared.visibility = visibility;
        self
    }

    /// Waits up to so long in one receive.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Pauses like this after failures, of handlers and of receives.
    #[must_use]
    pub fn retry(mut self, backoff: Backoff) -> Self {
        self.shared.retry = backoff;
        self
    }

    /// Gives handlers so long to end when the consumer is stopped. Those that have not are
    /// dropped, and their messages returned.
    #[must_use]
    pub fn drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// Handles messages until `stop` ends, and then what was begun.
    ///
    /// Dropping the future drops its handlers; what they had comes back when the leases end.
    ///
    /// # Errors
    ///
    /// Where a setting is out of range. Whatever else goes wrong is tried again.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn run<H, F>(
        self,
        handler: H,
        stop: impl Future<Output = ()>,
    ) -> Result<Tally, BrokerError>
    where
        H: Fn(Delivery, Lease) -> F + Send + Sync + 'static,
        F: Future<Output = Verdict> + Send + 'static,
    {
        let capacity = self.concurrency.saturating_add(self.prefetch);
        self.request(1).check()?;
        let (phase, phases) = watch::channel(Phase::Working);
        let permits = Arc::new(Semaphore::new(self.concurrency.min(Semaphore::MAX_PERMITS)));
        let drain = self.drain;
        let wait = self.wait;
        let shared = Arc::new(self.shared);
        let handler = Arc::new(handler);
        let (mut tally, mut tasks) = (Tally::default(), JoinSet::new());
        let mut receiving = None;
        tokio::pin!(stop);
        loop {
            let room = capacity.saturating_sub(tasks.len());
            if receiving.is_none() && room > 0 {
                receiving = Some(Box::pin(receive(Arc::clone(&shared), room, wait)));
            }
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(ended) = tasks.join_next() => tally.count(ended),
                deliveries = poll(&mut receiving) => {
                    receiving = None;
                    for delivery in deliveries {
                        let work = work(
                            Arc::clone(&shared),
                            Arc::clone(&handler),
                            delivery,
                            Arc::clone(&permits),
                            phases.clone(),
                        );
                        tasks.spawn(work);
                    }
                }
            }
        }
        // Whoever is waiting in the queue for this consumer is not there any more.
        drop(receiving);
        phase.send_replace(Phase::Draining);
        let cut_off = tokio::time::sleep(drain);
        tokio::pin!(cut_off);
        while !tasks.is_empty() {
            tokio::select! {
                Some(ended) = tasks.join_next() => tally.count(ended),
                () = &mut cut_off => break,
            }
        }
        phase.send_replace(Phase::CutOff);
        let rest = async {
            while let Some(ended) = tasks.join_next().await {
                tally.count(ended);
            }
        };
        let _ = tokio::time::timeout(CUT_OFF_MAX, rest).await;
        tally.unsettled += tasks.len() as u64;
        Ok(tally)
    }

    fn request(&self, max: usize) -> ReceiveRequest {
        self.shared.request(max, self.wait)
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Consumer")
            .field("topic", &self.shared.topic)
            .field("group", &self.shared.group)
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

impl Tally {
    fn count(&mut self, ended: Result<Fate, tokio::task::JoinError>) {
        // A task of ours ends without a word only with its runtime.
        match ended.unwrap_or(Fate::Unsettled) {
            Fate::Done => self.done += 1,
            Fate::Returned => self.returned += 1,
            Fate::HandedBack => self.handed_back += 1,
            Fate::Lost => self.lost += 1,
            Fate::Unsettled => self.unsettled += 1,
        }
    }
}

impl Shared {
    fn request(&self, max: usize, wait: Duration) -> ReceiveRequest {
        let consumer = self.name.clone();
        let max = max.min(RECEIVE_MESSAGES_MAX);
        ReceiveRequest { consumer, max, wait, visibility: Some(self.visibility) }
    }

    async fn extend(&self, receipt: Receipt, span: Duration) -> Result<Settled, BrokerError> {
        self.broker.extend(&self.topic, &self.group, vec![receipt], span).await
    }

    /// A pause that grows with what failed in a row and differs between consumers.
    fn pause(&self, failures: u32) -> Duration {
        let name = self.name.as_str().bytes();
        let seed = name.fold(0, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte));
        self.retry.pause(seed, failures)
    }
}

/// Receives until there is something.
async fn receive(shared: Arc<Shared>, max: usize, wait: Duration) -> Vec<Delivery> {
    let mut failures = 0;
    loop {
        let request = shared.request(max, wait);
        match shared.broker.receive(&shared.topic, &shared.group, request).await {
            Ok(deliveries) if !deliveries.is_empty() => return deliveries,
            Ok(_) => failures = 0,
            Err(_) => {
                failures += 1;
                tokio::time::sleep(shared.pause(failures)).await;
            }
        }
        if wait.is_zero() {
            // Whoever does not wait in the queue asks again now and then.
            tokio::time::sleep(shared.pause(1)).await;
        }
    }
}

/// Waits for the future, if there is one.
async fn poll<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
