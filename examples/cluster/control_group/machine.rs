//! What the control group replicates.

use bytes::Bytes;
use dss_raft::{LogIndex, RestoreError, StateMachine};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::heads::{AuditHead, Heads};
use super::members::{MemberChanges, MemberCommand, MemberReply};
use super::tokens::{TokenCommand, TokenReply, Tokens};

/// The first byte of every command and snapshot.
const FORMAT: u8 = 1;

/// A command of the group. Each may be proposed again where its outcome is unknown: the second
/// time changes nothing. New kinds are added at the end, since a kind is known by its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ControlCommand {
    /// Changes who may call.
    Token(TokenCommand),
    /// Says how far an audit log goes.
    Audit(AuditHead),
    /// Changes who belongs to the cluster.
    Members(MemberCommand),
}

/// What a [`ControlCommand`] is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ControlReply {
    /// The command cannot be read, by this version.
    Malformed,
    /// How the change of tokens ended.
    Token(TokenReply),
    /// The head that is known.
    Audit(AuditHead),
    /// How the change of the members ended.
    Members(MemberReply),
}

impl ControlCommand {
    pub(super) fn encode(&self) -> Bytes {
        postcard::to_extend(self, vec![FORMAT]).expect("it holds nothing that has no form").into()
    }
}

fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes.strip_prefix(&[FORMAT])?) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

/// What operators have decided, as one node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ControlState {
    /// Who may call.
    pub(crate) tokens: Tokens,
    /// How far the audit logs go.
    pub(crate) heads: Heads,
    /// Who belongs to the cluster beside those that it began with.
    pub(crate) members: MemberChanges,
}

impl ControlState {
    fn apply(&mut self, command: ControlCommand) -> ControlReply {
        match command {
            ControlCommand::Token(command) => ControlReply::Token(self.tokens.apply(command)),
            ControlCommand::Audit(head) => ControlReply::Audit(self.heads.apply(head)),
            ControlCommand::Members(command) => ControlReply::Members(self.members.apply(command)),
        }
    }
}

/// The state machine of the group. Its state stands where everybody on the node can look at it.
pub(crate) struct ControlMachine {
    state: watch::Sender<ControlState>,
}

impl ControlMachine {
    /// An empty machine, and its state as it will be while the machine is fed.
    pub(crate) fn new() -> (Self, watch::Receiver<ControlState>) {
        let (state, seen) = watch::channel(ControlState::default());
        (Self { state }, seen)
    }
}

impl StateMachine for ControlMachine {
    type Reply = ControlReply;

    fn apply(&mut self, _index: LogIndex, command: &Bytes) -> ControlReply {
        let Some(command) = decode(command) else { return ControlReply::Malformed };
        let mut reply = ControlReply::Malformed;
        self.state.send_modify(|state| reply = state.apply(command));
        reply
    }

    fn snapshot(&self) -> Bytes {
        let state = self.state.borrow();
        postcard::to_extend(&*state, vec![FORMAT])
            .expect("it holds nothing that has no form")
            .into()
    }

    fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError> {
        let problem = "not a snapshot of the control group";
        self.state.send_replace(decode(snapshot).ok_or(RestoreError { problem })?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::{Role, SecretHash, Token};
    use super::*;

    fn create(id: &str) -> ControlCommand {
        ControlCommand::Token(TokenCommand::Create(Token {
            id: id.to_owned(),
            role: Role::Reader,
            name: "name".to_owned(),
            secret: SecretHash([1; 32]),
            created_ms: 1,
            expires_ms: Some(2),
            revoked_ms: None,
        }))
    }

    fn head(sequence: u64) -> AuditHead {
        AuditHead { node: "n1".to_owned(), chain: [1; 16], sequence, mac: [2; 32] }
    }

    fn apply(machine: &mut ControlMachine, command: &ControlCommand) -> ControlReply {
        machine.apply(LogIndex::new(1), &command.encode())
    }

    #[test]
    fn what_is_decided_is_seen_at_once() {
        let (mut machine, seen) = ControlMachine::new();
        let done = ControlReply::Token(TokenReply::Done);
        assert_eq!(apply(&mut machine, &create("a")), done);
        assert!(seen.borrow().tokens.get("a").is_some());
        assert_eq!(
            apply(&mut machine, &ControlCommand::Audit(head(3))),
            ControlReply::Audit(head(3))
        );
        assert_eq!(seen.borrow().heads.iter().collect::<Vec<_>>(), [&head(3)]);
    }

    #[test]
    fn a_snapshot_restores_all_of_it() {
        let (mut machine, seen) = ControlMachine::new();
        apply(&mut machine, &create("a"));
        apply(&mut machine, &ControlCommand::Audit(head(3)));
        let (mut restored, seen_there) = ControlMachine::new();
        restored.restore(&machine.snapshot()).unwrap();
        assert_eq!(*seen_there.borrow(), *seen.borrow());
        assert_ne!(*seen_there.borrow(), ControlState::default());
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let (mut machine, _seen) = ControlMachine::new();
        apply(&mut machine, &create("a"));
        let before = machine.snapshot();
        let command = create("b").encode();
        for bytes in [&b""[..], b"\x01", b"\x02\x00", b"\x01\x63", &command[..command.len() - 1]] {
            let bytes = Bytes::copy_from_slice(bytes);
            assert_eq!(machine.apply(LogIndex::new(1), &bytes), ControlReply::Malformed);
            assert!(machine.restore(&bytes).is_err());
        }
        for end in 0..before.len() {
            assert!(machine.restore(&before.slice(..end)).is_err(), "{end}");
        }
        assert_eq!(machine.snapshot(), before);
    }
}
