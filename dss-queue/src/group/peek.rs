//! What a group has not settled, for whoever wants to look.

use super::{Exception, Group, State};
use crate::message::{Message, MessageState, PeekedMessage};
use crate::topic::Stored;

impl Group {
    /// The messages from `begin` on that are not the log's: those that were redriven.
    pub(crate) fn own(&self, begin: u64) -> impl Iterator<Item = &Message> {
        self.exceptions.range(begin..).filter_map(|(_, exception)| exception.own.as_deref())
    }

    pub(crate) fn peeked_own(&self, message: &Message) -> PeekedMessage {
        let exception = self.exceptions.get(&message.id.sequence());
        let attempts = exception.map_or(0, |exception| exception.attempts);
        let state = exception.map_or(MessageState::Ready, Exception::waits_for);
        message.clone().into_peeked(attempts, state)
    }

    /// A message of the log, unless the group is done with it.
    pub(crate) fn peeked(&self, stored: Stored<'_>) -> Option<PeekedMessage> {
        match self.exceptions.get(&stored.sequence()) {
            Some(exception) if exception.own.is_none() => {
                Some(stored.peeked(exception.attempts, exception.waits_for()))
            }
            _ => (!self.has_settled(stored)).then(|| stored.peeked(0, stored.waits_for())),
        }
    }
}

impl Exception {
    fn waits_for(&self) -> MessageState {
        match &self.state {
            State::Ready => MessageState::Ready,
            State::Leased(lease) => {
                MessageState::InFlight { consumer: lease.consumer.clone(), until: lease.until }
            }
            State::Delayed { until } => MessageState::Delayed { until: *until },
        }
    }
}
