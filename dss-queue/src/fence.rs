//! Publishing under a lock.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{FENCE_MEMORY, FENCES_MAX, NAME_BYTES_MAX};
use crate::refusal::Refusal;
use crate::time::UnixMillis;

/// A lock that a producer holds, and the fencing token that came with it.
///
/// Whoever gets the lock next has a greater token. Once it has published to a topic, the topic
/// refuses what comes late from those who had the lock before. Of a lock of which it has not
/// heard yet it knows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The name of the lock: 1 to [`NAME_BYTES_MAX`] bytes.
    pub lock: String,
    /// The token.
    pub token: u64,
}

impl Fence {
    /// Whether the name is in its range. Every broker refuses what is not.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] where it is not.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.lock.is_empty() || self.lock.len() > NAME_BYTES_MAX {
            return Err(Refusal::invalid("lock", "must have 1 to 512 bytes"));
        }
        Ok(())
    }
}

/// The newest token of each lock under which was published to a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Fences {
    newest: BTreeMap<String, Newest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Newest {
    token: u64,
    /// When something was published under it last.
    used_at: UnixMillis,
}

impl Fences {
    /// Lets who has the newest token pass, and remembers it.
    pub(crate) fn pass(&mut self, now: UnixMillis, fence: &Fence) -> Result<(), Refusal> {
        if let Some(newest) = self.newest.get_mut(&fence.lock) {
            if fence.token < newest.token {
                return Err(Refusal::Fenced { newest: newest.token });
            }
            *newest = Newest { token: fence.token, used_at: now };
            return Ok(());
        }
        if self.newest.len() >= FENCES_MAX {
            self.forget_oldest(now)?;
        }
        let newest = Newest { token: fence.token, used_at: now };
        self.newest.insert(fence.lock.clone(), newest);
        Ok(())
    }

    fn forget_oldest(&mut self, now: UnixMillis) -> Result<(), Refusal> {
        let oldest = self.newest.iter().min_by_key(|(_, newest)| newest.used_at);
        let (lock, used_at) = oldest.map(|(lock, it)| (lock.clone(), it.used_at)).unzip();
        let age = used_at.map_or(Duration::ZERO, |at| now.since(at));
        match lock {
            Some(lock) if age >= FENCE_MEMORY => {
                self.newest.remove(&lock);
                Ok(())
            }
            _ => Err(Refusal::TooManyFences),
        }
    }

    /// Whether there are not too many, after decoding.
    pub(crate) fn are_few(&self) -> bool {
        self.newest.len() <= FENCES_MAX
    }
}
