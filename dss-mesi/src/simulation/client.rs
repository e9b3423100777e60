//! What clients do.

use bytes::Bytes;

use super::history::{Call, Entry};
use super::world::{World, name};
use crate::cache::{Answer, Condition, OperationId};
use crate::error::CacheError;

/// How many operations one key sees at most: what the checker's bit set holds, less the losses.
const OPERATIONS_MAX: usize = 90;

impl World {
    pub(super) fn operate(&mut self, slot: usize) -> Result<(), String> {
        let key = self.random.below(self.plan.keys);
        let asked = self.history.entries.iter().filter(|entry| entry.key == key).count();
        if asked >= OPERATIONS_MAX {
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

    pub(super) fn begin(&mut self, slot: usize, key: usize, call: Call) -> Result<(), String> {
        let Some(running) = self.nodes[slot].running.as_ref() else { return Ok(()) };
        let id = OperationId::new(self.history.entries.len() as u64);
        let entry = Entry { member: running.member, key, call, begun: self.now, ended: None };
        self.history.entries.push(entry);
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
