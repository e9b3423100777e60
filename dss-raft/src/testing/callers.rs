//! Clients that read and write registers, and the history of what they were told.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checker::Serial;
use super::linearizability::{CallId, History};
use super::registers::{Operation, RegisterCommand, RegisterReply, Registers};
use super::registers::{decode_number, encode_swap};
use super::violation::Violation;
use crate::core::Random;
use crate::sessions::{Session, SessionCommand, SessionReply};

/// Everybody who reads and writes registers.
///
/// Some write once and take note of whatever comes of it. Others have sessions: they repeat a write,
/// on any node, until one of them is told what came of it, and it must have happened once.
#[derive(Debug)]
pub(super) struct Callers {
    /// How many registers there are of each kind.
    keys: u64,
    values: u64,
    history: History<Registers>,
    clients: Vec<Client>,
    /// What each command in flight was proposed for.
    purposes: BTreeMap<Serial, Purpose>,
}

/// A client with a session, or about to have one.
#[derive(Debug, Default)]
struct Client {
    session: Option<Session>,
    open: Option<Write>,
}

/// What a client repeats until it is told what came of it.
#[derive(Debug)]
struct Write {
    call: CallId,
    number: u64,
    command: SessionCommand,
}

#[derive(Debug)]
enum Purpose {
    /// A write that is proposed once.
    Once(CallId),
    Register {
        client: usize,
    },
    Execute {
        client: usize,
        number: u64,
    },
}

/// A read of a register.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) key: u8,
    call: CallId,
}

/// How many clients have sessions.
const CLIENTS: u64 = 4;

impl Callers {
    pub(super) fn new(keys: u64) -> Self {
        Self {
            keys: keys.max(1),
            values: 0,
            history: History::new(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            purposes: BTreeMap::new(),
        }
    }

    /// What some client proposes next.
    pub(super) fn propose(
        &mut self,
        serial: Serial,
        now: Duration,
        random: &mut Random,
    ) -> RegisterCommand {
        let chosen = usize::try_from(random.below(CLIENTS * 2)).unwrap_or(0);
        if chosen >= self.clients.len() {
            let (key, value) = (self.draw_key(random), self.next_value());
            let call = self.history.call(Operation::Swap { key, value });
            self.purposes.insert(serial, Purpose::Once(call));
            return RegisterCommand::Plain(encode_swap(key, value));
        }
        let (purpose, command) = self.propose_in_session(chosen, random);
        self.purposes.insert(serial, purpose);
        RegisterCommand::Session(command.encode(now))
    }

    fn propose_in_session(
        &mut self,
        client: usize,
        random: &mut Random,
    ) -> (Purpose, SessionCommand) {
        // Those in sessions lie behind the others.
        let key = self.draw_key(random) + u8::try_from(self.keys).unwrap_or(0);
        let value = self.next_value();
        let Client { session, open } = &mut self.clients[client];
        let Some(session) = session else {
            return (Purpose::Register { client }, SessionCommand::Register);
        };
        let history = &mut self.history;
        let write = open.get_or_insert_with(|| {
            let call = history.call(Operation::Swap { key, value });
            let (number, command) = session.begin(encode_swap(key, value));
            Write { call, number, command }
        });
        (Purpose::Execute { client, number: write.number }, write.command.clone())
    }

    fn draw_key(&self, random: &mut Random) -> u8 {
        u8::try_from(random.below(self.keys)).unwrap_or(0)
    }

    fn next_value(&mut self) -> u64 {
        self.values += 1;
        self.values
    }

    /// The command was refused: it is in no log, and never will be.
    pub(super) fn refused(&mut self, serial: Serial) {
        if let Some(Purpose::Once(call)) = self.purposes.remove(&serial) {
            self.history.withdrawn(call);
        }
    }

    /// The command was applied, and whoever proposed it is told so.
    pub(super) fn replied(
        &mut self,
        serial: Serial,
        reply: RegisterReply,
    ) -> Result<(), Violation> {
        let Some(purpose) = self.purposes.remove(&serial) else { return Ok(()) };
        match (purpose, reply) {
            (Purpose::Once(call), RegisterReply::Plain(before)) => {
                self.history.returned(call, before);
            }
            (
                Purpose::Register { client },
                RegisterReply::Session(SessionReply::Registered(session)),
            ) => {
                // One that asked more than once uses what it was given first.
                self.clients[client].session.get_or_insert_with(|| Session::new(session));
            }
            (Purpose::Execute { client, number }, RegisterReply::Session(reply)) => {
                let Client { session: Some(session), open } = &mut self.clients[client] else {
                    return Ok(());
                };
                let Some(write) = open.take_if(|write| write.number == number) else {
                    // A repetition of what it was told before.
                    return Ok(());
                };
                let SessionReply::Applied(before) = reply else {
                    return Err(Violation::SessionLost { session: session.id(), reply });
                };
                self.history.returned(write.call, decode_number(&before));
                session.end(number);
            }
            (purpose, _) => {
                unreachable!("the registers answer as they are asked: {purpose:?}");
            }
        }
        Ok(())
    }

    /// Somebody reads a register.
    pub(super) fn ask(&mut self, random: &mut Random) -> Question {
        let key = u8::try_from(random.below(self.keys * 2)).unwrap_or(0);
        Question { key, call: self.history.call(Operation::Read { key }) }
    }

    pub(super) fn answered(&mut self, question: Question, value: u64) {
        self.history.returned(question.call, value);
    }

    /// Whether all that clients were told fits together.
    pub(super) fn check(&self) -> Result<(), Violation> {
        Ok(self.history.check()?)
    }
}
