//! What clients do.

use bytes::Bytes;

use super::history::{Call, Entry};
use super::world::{World, name};
use crate::cache::{Answer, Condition, OperationId};
use crate::error::CacheError;

impl World {
    pub(super) fn operate(&mut self, slot: usize) -> Result<(), String> {
        let key = self.some_key();
        if self.asked[key] >= self.plan.operations_max {
            return Ok(());
        }
        let known = &self.known[key];
        let condition = match self.random.between(0, 6) {
            0 => Condition::Absent,
            1 | 2 if !known.is_empty() => {
                // Mostly a recent one, so that some hold.
                let back = self.random.below(known.len().min(3)) + 1;
                Condition::Matches(known[known.len() - back])
            }
            _ => Condition::None,
        };
        let call = match self.random.between(0, 10) {
            0..5 => Call::Read,
            5 => Call::Remove { condition },
            _ => {
                self.last_value += 1;
                Call::Put { value: self.last_value, condition }
            }
        };
        self.begin(slot, key, call)
    }

    /// Where there are many keys, some are asked for much more often than most.
    fn some_key(&mut self) -> usize {
        let mut bound = self.plan.keys;
        if self.plan.is_wide() {
            for _ in 0..4 {
                bound = self.random.below(bound) + 1;
            }
        }
        self.random.below(bound)
    }

    pub(super) fn begin(&mut self, slot: usize, key: usize, call: Call) -> Result<(), String> {
        let Some(running) = self.nodes[slot].running.as_ref() else { return Ok(()) };
        let id = OperationId::new(self.history.entries.len() as u64);
        let entry = Entry { member: running.member, key, call, begun: self.now, ended: None };
        self.history.entries.push(entry);
        self.asked[key] += 1;
        self.suspects.push(key);
        let key = name(key);
        self.input(slot, |running, now| match call {
            Call::Read => running.cache.read(now, id, key),
            Call::Put { value, condition } => {
                let value = Bytes::from(value.to_be_bytes().to_vec());
                running.cache.put(now, id, key, value, condition);
            }
            Call::Remove { condition } => running.cache.remove(now, id, key, condition),
        })
    }

    pub(super) fn answered(
        &mut self,
        operation: OperationId,
        answer: Answer,
    ) -> Result<(), String> {
        let place = usize::try_from(operation.get()).unwrap();
        let (key, call) = {
            let entry = &self.history.entries[place];
            if entry.ended.is_some() {
                return Err(format!("operation {place} was answered twice: {answer:?}"));
            }
            (entry.key, entry.call)
        };
        self.tally.answered += 1;
        let seen = match (&answer, call) {
            (Answer::Read(Some(read)), _) => {
                let value = <[u8; 4]>::try_from(&read.value[..]).map_err(|_| "torn value")?;
                Some((read.version, u32::from_be_bytes(value)))
            }
            (Answer::Written(version), Call::Put { value, .. }) => Some((*version, value)),
            _ => None,
        };
        if let Some((version, value)) = seen {
            self.history.saw(key, version, value)?;
            self.known[key].push(version);
        }
        let refused = matches!(answer, Answer::Failed(CacheError::VersionMismatch { .. }));
        self.tally.failed += u64::from(!refused && matches!(answer, Answer::Failed(_)));
        self.history.entries[place].ended = Some((self.now, answer));
        Ok(())
    }
}
