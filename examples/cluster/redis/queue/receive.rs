//! Leasing messages, and waiting for some.

use std::sync::Arc;
use std::time::Duration;

use dss_queue::limits::BATCH_BYTES_MAX;
use dss_queue::{BrokerError, Delivery, GroupName, ReceiveRequest, TopicName};
use std::hash::{BuildHasher, RandomState};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::place::{CallError, Place};
use super::settings::millis;
use super::settle::{What, settlement};
use super::shared::{Found, Shared};

/// How long the first of a line waits before it looks at Redis again, where no bell rings: a ring
/// may get lost with a connection, and other processes' leases end unannounced.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long it waits where a look failed.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);
/// Something is due in the millisecond after the one that is named.
const TICK: Duration = Duration::from_millis(1);

/// What one look at the sources came to.
struct Look {
    granted: Option<Granted>,
    /// Whether there is something for another one.
    more: bool,
    /// How long nothing can come by itself.
    quiet: Duration,
}

impl Shared {
    pub(super) async fn receive(
        self: &Arc<Self>,
        topic: &TopicName,
        group: &GroupName,
        request: ReceiveRequest,
    ) -> Result<Vec<Delivery>, BrokerError> {
        let deadline = Instant::now() + request.wait;
        let request = Arc::new(Request { topic: topic.clone(), group: group.clone(), request });
        if request.request.wait.is_zero() {
            let look = self.look(&request).await?;
            return Ok(look.granted.map_or_else(Vec::new, Granted::accept));
        }
        let line = self.lines.of(topic, group);
        let mut turn = None;
        loop {
            if turn.is_none() {
                // Who has no turn at the end has missed nothing: the first one found nothing.
                let Ok(next) = timeout_at(deadline, line.turn()).await else {
                    return Ok(Vec::new());
                };
                turn = Some(next);
            }
            let quiet = match self.look(&request).await {
                Ok(Look { granted: Some(granted), more, .. }) => {
                    if more {
                        line.widen();
                    }
                    return Ok(granted.accept());
                }
                Ok(look) => {
                    turn = turn.and_then(|turn| line.narrow(turn));
                    if turn.is_none() && Instant::now() < deadline {
                        continue;
                    }
                    look.quiet.min(LOOK_INTERVAL)
                }
                // A server that has just gone down is closed now, and the others may have some.
                Err(BrokerError::Unavailable) if Instant::now() < deadline => FAILURE_PAUSE,
                Err(error) => return Err(error),
            };
            let next = (Instant::now() + quiet).min(deadline);
            tokio::select! {
                () = line.rung() => {}
                () = sleep_until(next) => {}
            }
            if Instant::now() >= deadline {
                let look = self.look(&request).await?;
                return Ok(look.granted.map_or_else(Vec::new, Granted::accept));
            }
        }
    }

    /// Looks in a task of its own, so that somebody is there for the answer whatever becomes of the
    /// caller: what a caller that has gone was granted is handed back.
    async fn look(self: &Arc<Self>, request: &Arc<Request>) -> Result<Look, BrokerError> {
        let (answer, answered) = oneshot::channel();
        let (shared, request) = (Arc::clone(self), Arc::clone(request));
        self.runtime.spawn(async move {
            if !answer.is_closed() {
                let look = shared.look_everywhere(&request).await;
                // Where nobody takes it any more, dropping it hands it back.
                drop(answer.send(look));
            }
        });
        // The task ends without an answer only with its runtime.
        answered.await.unwrap_or(Err(BrokerError::OutcomeUnknown))
    }

    async fn look_everywhere(self: &Arc<Self>, request: &Request) -> Result<Look, BrokerError> {
        let mut quiet = Duration::MAX;
        let (mut exists, mut failure, mut home_answered) = (false, None, false);
        for place in self.sources(&request.topic) {
            match self.lease(&place, request).await {
                Ok(Some(look)) if look.granted.is_some() => return Ok(look),
                Ok(Some(look)) => {
                    quiet = quiet.min(look.quiet);
                    exists = true;
                }
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
            home_answered |= place.home.is_none() && failure.is_none();
        }
        match failure {
            // Something may have been leased that nobody knows of: it comes back.
            Some(CallError::NotDone | CallError::Unknown) if exists => {
                Ok(Look { granted: None, more: false, quiet })
            }
            Some(error) => Err(BrokerError::from(error)),
            None if exists => Ok(Look { granted: None, more: false, quiet }),
            None if home_answered => Err(BrokerError::NotFound),
            None if self.is_known(&request.topic).await? => {
                Ok(Look { granted: None, more: false, quiet })
            }
            None => Err(BrokerError::Unavailable),
        }
    }

    /// Leases at one place; `None` where the topic is not there.
    async fn lease(
        self: &Arc<Self>,
        place: &Place,
        request: &Request,
    ) -> Result<Option<Look>, CallError> {
        let Request { group, request, .. } = request;
        // It is shown with every message of this receive, and never again.
        let nonce = RandomState::new().hash_one(()) >> 1;
        loop {
            let arguments = [
                group.as_str().to_owned(),
                request.consumer.as_str().to_owned(),
                request.max.to_string(),
                request.visibility.map_or_else(String::new, |it| millis(it).to_string()),
                nonce.to_string(),
                BATCH_BYTES_MAX.to_string(),
            ];
            let script = &self.caller.scripts.receive;
            let mut fields = match self.ask(place, script, arguments).await? {
                Found::Answer(fields) => fields,
                Found::NoTopic | Found::NoGroup => return Ok(None),
                Found::Other(_) => return Err(CallError::Full),
            };
            let deliveries = fields.list()?.each(|fields| fields.delivery(nonce))?;
            let more = fields.number()? > 0;
            let due = u64::try_from(fields.signed()?).ok().map(Duration::from_millis);
            if deliveries.is_empty() && more {
                // It passed many that cannot be delivered, and there is more behind them.
                continue;
            }
            let quiet = due.map_or(Duration::MAX, |due| due + TICK);
            let granted = (!deliveries.is_empty()).then(|| Granted {
                shared: Arc::clone(self),
                place: place.clone(),
                group: group.clone(),
                deliveries,
            });
            return Ok(Some(Look { granted, more, quiet }));
        }
    }

    /// Whether a node that can be asked has heard of the topic.
    async fn is_known(&self, topic: &TopicName) -> Result<bool, BrokerError> {
        let mut command = redis::cmd("HEXISTS");
        command.arg(format!("{}:topics", self.caller.keys)).arg(topic.as_str());
        for node in self.nodes.iter().filter(|node| node.is_open()) {
            if node.redis.run::<bool>(&command).await.unwrap_or(false) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

struct Request {
    topic: TopicName,
    group: GroupName,
    request: ReceiveRequest,
}

/// Messages that are leased and that nobody has seen; dropping them hands them back.
struct Granted {
    shared: Arc<Shared>,
    place: Place,
    group: GroupName,
    deliveries: Vec<Delivery>,
}

impl Granted {
    /// From here on they are the caller's; nothing may be awaited between this and handing them
    /// out.
    fn accept(mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries)
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        if self.deliveries.is_empty() {
            return;
        }
        let receipts: Vec<_> = self.deliveries.iter().map(|delivery| delivery.receipt).collect();
        let arguments = settlement(&self.group, What::Back, &receipts);
        let (shared, place) = (Arc::clone(&self.shared), self.place.clone());
        self.shared.runtime.spawn(async move {
            // Where it fails, the leases run out.
            let _ = shared.ask(&place, &shared.caller.scripts.settle, arguments).await;
        });
    }
}
