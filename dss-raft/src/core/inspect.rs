//! What the simulation may look at besides the outputs.

use super::Raft;
use super::log::Log;
use super::planted::PlantedBug;
use super::reads::Reads;
use super::role::Role;
use crate::types::Term;

impl Raft {
    /// Switches a bug on.
    pub(crate) fn plant(&mut self, bug: Option<PlantedBug>) {
        self.planted_bug = bug;
        if bug == Some(PlantedBug::ReadNamesReused) {
            self.reads = Reads::new(0);
        }
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn term(&self) -> Term {
        self.hard_state.term
    }

    pub(crate) fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }
}
