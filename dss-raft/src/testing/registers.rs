//! What every simulated node keeps beside the user's state machine: registers, so that what clients
//! read and write can be checked whatever the user's machine is.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::linearizability::Model;
use crate::ports::{RestoreError, StateMachine};
use crate::sessions::{SessionLimits, SessionReply, Sessions};
use crate::types::LogIndex;

/// A number under each key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Registers(BTreeMap<u8, u64>);

/// What is done to a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Read {
        key: u8,
    },
    /// Its reply is what was there before, so that little room is left for other orders.
    Swap {
        key: u8,
        value: u64,
    },
}

impl Model for Registers {
    type Key = u8;
    type State = u64;
    type Operation = Operation;
    type Reply = u64;

    fn key(operation: &Operation) -> u8 {
        match operation {
            Operation::Read { key } | Operation::Swap { key, .. } => *key,
        }
    }

    fn initial(_: &u8) -> u64 {
        0
    }

    fn is_read(operation: &Operation) -> bool {
        matches!(operation, Operation::Read { .. })
    }

    fn apply(state: &mut u64, operation: &Operation) -> u64 {
        match operation {
            Operation::Read { .. } => *state,
            Operation::Swap { value, .. } => std::mem::replace(state, *value),
        }
    }
}

/// The bytes of a swap.
pub(super) fn encode_swap(key: u8, value: u64) -> Bytes {
    [&[key][..], &value.to_le_bytes()].concat().into()
}

/// The number that a reply to a swap holds.
pub(super) fn decode_number(reply: &[u8]) -> u64 {
    reply.try_into().map_or(0, u64::from_le_bytes)
}

impl StateMachine for Registers {
    type Reply = Bytes;

    fn apply(&mut self, _: LogIndex, command: &Bytes) -> Bytes {
        let Some((key, value)) = command.split_first() else { return Bytes::new() };
        let before = self.0.insert(*key, decode_number(value));
        Bytes::copy_from_slice(&before.unwrap_or(0).to_le_bytes())
    }

    fn snapshot(&self) -> Bytes {
        self.0.iter().flat_map(|(key, value)| encode_swap(*key, *value)).collect()
    }

    fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError> {
        let numbers = snapshot.chunks(9).map(|entry| (entry[0], decode_number(&entry[1..])));
        self.0 = numbers.collect();
        Ok(())
    }
}

/// A user's state machine, and registers beside it: some written as they are, some in sessions.
#[derive(Debug)]
pub(super) struct Beside<M> {
    pub(super) user: M,
    plain: Registers,
    once: Sessions<Registers>,
}

/// What becomes of a command to [`Beside`].
pub(super) struct Replies<R> {
    pub(super) user: R,
    pub(super) registers: RegisterReply,
}

pub(super) enum RegisterReply {
    Plain(u64),
    Session(SessionReply),
}

/// A command to the registers.
pub(super) enum RegisterCommand {
    Plain(Bytes),
    Session(Bytes),
}

impl RegisterCommand {
    /// The bytes of this and of the user's command together.
    pub(super) fn with(&self, user: &[u8]) -> Bytes {
        let (tag, command) = match self {
            Self::Plain(command) => (0, command),
            Self::Session(command) => (1, command),
        };
        let length = u8::try_from(command.len()).expect("a command to a register is short");
        [&[tag, length][..], command, user].concat().into()
    }
}

impl<M: StateMachine> Beside<M> {
    pub(super) fn new(user: M) -> Self {
        let once = Sessions::new(Registers::default(), SessionLimits::default());
        Self { user, plain: Registers::default(), once }
    }

    /// Both commands in these bytes, which [`RegisterCommand::with`] made.
    pub(super) fn apply(&mut self, index: LogIndex, command: &Bytes) -> (Bytes, Replies<M::Reply>) {
        let (tag, length) = (command[0], usize::from(command[1]));
        let (to_register, to_user) = (command.slice(2..2 + length), command.slice(2 + length..));
        let registers = match tag {
            0 => RegisterReply::Plain(decode_number(&self.plain.apply(index, &to_register))),
            _ => RegisterReply::Session(self.once.apply(index, &to_register)),
        };
        let user = self.user.apply(index, &to_user);
        (to_user, Replies { user, registers })
    }

    /// What stands under a key.
    pub(super) fn value(&self, key: u8) -> u64 {
        let found = self.plain.0.get(&key).or_else(|| self.once.machine().0.get(&key));
        found.copied().unwrap_or(0)
    }

    pub(super) fn snapshot(&self) -> Bytes {
        let parts = [self.plain.snapshot(), self.once.snapshot()];
        let length = |part: &Bytes| (part.len() as u64).to_le_bytes();
        let lengths = [length(&parts[0]), length(&parts[1])].concat();
        [&lengths, &parts[0][..], &parts[1], &self.user.snapshot()].concat().into()
    }

    pub(super) fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError> {
        let mut rest = snapshot.clone();
        let lengths = rest.split_to(16);
        let mut part = |length: &[u8]| {
            rest.split_to(usize::try_from(decode_number(length)).unwrap_or(usize::MAX))
        };
        let (plain, once) = (part(&lengths[..8]), part(&lengths[8..]));
        self.plain.restore(&plain)?;
        self.once.restore(&once)?;
        self.user.restore(&rest)
    }
}
