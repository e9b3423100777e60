//! What must hold after every step, and at the end.

use super::world::{World, name};
use crate::line::LineState;

impl World {
    /// Of every key that something has happened to: one node may write, or many may read what main
    /// memory has.
    pub(super) fn check_lines(&mut self) -> Result<(), String> {
        let suspects = std::mem::take(&mut self.suspects);
        if !self.plan.is_wide() || std::mem::take(&mut self.is_all_suspect) {
            return self.check_lines_of(0..self.plan.keys);
        }
        self.check_lines_of(suspects)
    }

    fn check_lines_of(&self, keys: impl IntoIterator<Item = usize>) -> Result<(), String> {
        for key in keys {
            let key = name(key);
            let usable = self.nodes.iter().filter_map(|node| node.running.as_ref());
            let usable = usable.filter(|running| {
                self.now < running.lease && running.cache.view().contains(running.member)
            });
            let held: Vec<_> = usable
                .map(|running| (running, running.cache.line(&key)))
                .filter(|(_, (state, _))| *state != LineState::Invalid)
                .collect();
            if held.len() > 1 && held.iter().any(|(_, (state, _))| state.is_owned()) {
                let held: Vec<_> = held.iter().map(|(it, line)| (it.member, line)).collect();
                return Err(format!("at {}: {key:?} is owned and shared: {held:?}", self.now));
            }
            let stored = self.memory.load(&key).map(|stored| stored.version);
            for (running, (state, version)) in held {
                // What was downgraded is on its way to main memory, and nobody else has it yet.
                let stored_later = running.cache.is_writing_back(&key);
                if state == LineState::Shared && version != stored && !stored_later {
                    let member = running.member;
                    return Err(format!(
                        "at {}: {member:?} shares {version:?} of {key:?}, stored is {stored:?}",
                        self.now
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether nothing is under way any more.
    pub(super) fn check_quiet(&self) -> Result<(), String> {
        for running in self.nodes.iter().filter_map(|node| node.running.as_ref()) {
            let home = &running.home;
            if !home.is_open() || !home.is_quiet() {
                return Err(format!("the home of {:?} is not quiet: {home:?}", running.member));
            }
            if !running.cache.is_clean() {
                let (member, cache) = (running.member, &running.cache);
                return Err(format!("the cache of {member:?} is not clean: {cache:?}"));
            }
        }
        match self.history.entries.iter().find(|entry| entry.ended.is_none()) {
            Some(entry) => Err(format!("never answered: {entry:?}")),
            None => Ok(()),
        }
    }
}
