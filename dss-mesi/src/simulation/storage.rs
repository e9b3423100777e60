//! Main memory as nodes reach it: slowly, and not always.

use super::world::{Event, World};
use crate::flaw::Flaw;
use crate::home::HomeOutput;
use crate::view::Epoch;

/// How long a call of main memory may take before its outcome is unknown.
const MEMORY_TIMEOUT: u64 = 60_000;

/// How late one whose answer was lost may still take effect: long after the view has changed.
const LATEST: u64 = 1_200_000;

impl World {
    /// A call of main memory takes effect some time later, and is answered after that; or its
    /// answer is lost, and it takes effect later still, or never.
    pub(super) fn call_memory(&mut self, slot: usize, life: u64, output: HomeOutput) {
        let effect = self.random.between(1, 2 * self.plan.memory_delay);
        let answer = self.random.between(1, 2 * self.plan.memory_delay);
        if self.healed || !self.random.chance(self.plan.memory_failure) {
            self.after(effect, Event::Effect { slot, life, output, answer_after: Some(answer) });
            return;
        }
        let unknown = match &output {
            HomeOutput::Load { call, .. } => {
                Event::Loaded { slot, life, call: *call, loaded: None }
            }
            HomeOutput::Store { call, .. } => {
                Event::Stored { slot, life, call: *call, outcome: None }
            }
            HomeOutput::Fence { call, .. } => {
                Event::Fenced { slot, life, call: *call, stands: false }
            }
            HomeOutput::Send { .. } => return,
        };
        self.after(MEMORY_TIMEOUT, unknown);
        if self.random.chance(700) {
            let latest = if self.random.chance(500) { LATEST } else { MEMORY_TIMEOUT };
            let late = self.random.between(1, latest);
            self.after(late, Event::Effect { slot, life, output, answer_after: None });
        }
    }

    pub(super) fn affect_memory(
        &mut self,
        slot: usize,
        life: u64,
        output: HomeOutput,
        answer_after: Option<u64>,
    ) {
        let event = match output {
            HomeOutput::Load { call, key } => {
                let loaded = Some(self.memory.load(&key).cloned());
                Event::Loaded { slot, life, call, loaded }
            }
            HomeOutput::Store { call, writer, key, version, value } => {
                let flaw = self.plan.config.flaw;
                if flaw == Some(Flaw::MemoryWithoutVersions) {
                    self.memory.forget(&key);
                }
                let writer = if flaw == Some(Flaw::MemoryWithoutFence) {
                    Epoch::new(u64::MAX)
                } else {
                    writer
                };
                let outcome = Some(self.memory.store(writer, key, version, value));
                Event::Stored { slot, life, call, outcome }
            }
            HomeOutput::Fence { call, epoch } => {
                Event::Fenced { slot, life, call, stands: self.memory.fence(epoch) == epoch }
            }
            HomeOutput::Send { .. } => return,
        };
        if let Some(delay) = answer_after {
            self.after(delay, event);
        }
    }
}
