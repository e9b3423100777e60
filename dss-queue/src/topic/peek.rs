//! Looking at messages without taking them.

use super::{Stored, Topic};
use crate::group::Group;
use crate::id::MessageId;
use crate::limits::PEEK_LOOKS_MAX;
use crate::message::{MessageState, Peek, PeekedMessage};

impl Topic {
    /// What is kept, or of that what a group has not settled, behind the message `after`.
    pub(crate) fn peek(&self, group: Option<&Group>, after: Option<MessageId>, max: usize) -> Peek {
        let mut peek = Peek::default();
        let begin = after.map_or(0, |after| after.sequence().saturating_add(1));
        let mut kept = self.log.from(begin).peekable();
        let mut own = group.into_iter().flat_map(|group| group.own(begin)).peekable();
        for _ in 0..PEEK_LOOKS_MAX {
            let kept_next = kept.peek().map(|stored| stored.id());
            let own_next = own.peek().map(|message| message.id);
            let Some(id) =
                [kept_next, own_next].into_iter().flatten().min_by_key(|id| id.sequence())
            else {
                peek.next = None;
                return peek;
            };
            if peek.messages.len() == max {
                return peek;
            }
            peek.next = Some(id);
            // Both where it was redriven here and is kept for other groups.
            let stored = kept.next_if(|stored| stored.id() == id);
            let own = own.next_if(|message| message.id == id);
            let message = match (own, stored, group) {
                (Some(own), _, Some(group)) => Some(group.peeked_own(own)),
                (_, Some(stored), Some(group)) => group.peeked(stored),
                (_, Some(stored), None) => Some(stored.peeked(0, stored.waits_for())),
                _ => None,
            };
            peek.messages.extend(message);
        }
        peek
    }
}

impl Stored<'_> {
    /// What a message waits for that nobody has received.
    pub(crate) fn waits_for(self) -> MessageState {
        match self.delayed_until() {
            Some(until) => MessageState::Delayed { until },
            None => MessageState::Ready,
        }
    }

    pub(crate) fn peeked(self, attempts: u32, state: MessageState) -> PeekedMessage {
        self.to_message().into_peeked(attempts, state)
    }
}
