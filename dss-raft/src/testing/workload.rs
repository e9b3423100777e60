//! What a user brings to a simulation.

use bytes::Bytes;

use crate::ports::StateMachine;

/// What a simulated cluster replicates, and what its clients do.
///
/// The cluster's own checks need nothing from it; what only holds for a certain state machine is
/// checked by the methods that may find it [`Broken`].
pub trait Workload {
    /// What is replicated.
    type Machine: StateMachine;

    /// A fresh state machine, for a node that starts.
    fn machine(&mut self) -> Self::Machine;

    /// The next command of a client; `random` is to be made use of.
    fn command(&mut self, random: u64) -> Bytes;

    /// A command was applied where it was proposed, and its client got this reply.
    ///
    /// # Errors
    ///
    /// Where the reply contradicts an earlier one.
    fn acknowledged(
        &mut self,
        command: &Bytes,
        reply: <Self::Machine as StateMachine>::Reply,
    ) -> Result<(), Broken> {
        let _ = (command, reply);
        Ok(())
    }

    /// A client reads, linearizably: whatever it does is to be done here.
    ///
    /// Reads overlap: one that began earlier may come later and see less.
    ///
    /// # Errors
    ///
    /// Where no state could be like this.
    fn read(&mut self, machine: &Self::Machine) -> Result<(), Broken> {
        let _ = machine;
        Ok(())
    }
}

/// What a [`Workload`] found broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub &'static str);
