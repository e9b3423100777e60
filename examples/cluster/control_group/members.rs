//! Who belongs to the cluster beside, or no more of, the nodes that its file began with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many nodes may ever have been added or removed: more than anybody has.
const MEMBERS_MAX: usize = 1_024;

/// A node that was added or removed while the cluster ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChangedMember {
    /// Where other nodes reach it, unless the cluster's file says that.
    pub(crate) peer: Option<String>,
    /// Where it serves clients, once it has said so.
    pub(crate) client: Option<String>,
    pub(crate) standing: Standing,
}

/// What was decided about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// It is to vote in every group.
    Belongs,
    /// It is to vote in none, and is reached until then.
    Leaves,
    /// It votes in none and is not reached any more. Its name stays known.
    Gone,
}

/// The nodes that were added or removed, by their names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct MemberChanges {
    by_name: BTreeMap<String, ChangedMember>,
}

/// A change of the members. Made again it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MemberCommand {
    /// This node is to belong to the cluster.
    Add { name: String, peer: String },
    /// This node serves clients there.
    Serves { name: String, client: String },
    /// This node is to leave.
    Remove { name: String },
    /// This node votes nowhere and may be forgotten.
    Forget { name: String },
}

/// How a [`MemberCommand`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MemberReply {
    /// It is as it was to be.
    Done,
    /// A node of this name is there, at another address, or is just leaving.
    Exists,
    /// There is no such node that this could be done with.
    Unknown,
    /// There are too many.
    Full,
}

impl MemberChanges {
    /// What was decided about the node of this name, where something was.
    pub(crate) fn get(&self, name: &str) -> Option<&ChangedMember> {
        self.by_name.get(name)
    }

    /// All of them, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &ChangedMember)> {
        self.by_name.iter()
    }

    pub(super) fn apply(&mut self, command: MemberCommand) -> MemberReply {
        match command {
            MemberCommand::Add { name, peer } => self.add(name, peer),
            MemberCommand::Serves { name, client } => match self.by_name.get_mut(&name) {
                Some(member) => {
                    member.client = Some(client);
                    MemberReply::Done
                }
                None => MemberReply::Unknown,
            },
            MemberCommand::Remove { name } => self.remove(name),
            MemberCommand::Forget { name } => match self.by_name.get_mut(&name) {
                Some(member) if member.standing != Standing::Belongs => {
                    member.standing = Standing::Gone;
                    MemberReply::Done
                }
                _ => MemberReply::Unknown,
            },
        }
    }

    fn add(&mut self, name: String, peer: String) -> MemberReply {
        let known = self.by_name.get(&name);
        match known {
            Some(ChangedMember { standing: Standing::Belongs, peer: known, .. }) => {
                let is_same = known.as_ref() == Some(&peer);
                return if is_same { MemberReply::Done } else { MemberReply::Exists };
            }
            Some(ChangedMember { standing: Standing::Leaves, .. }) => return MemberReply::Exists,
            Some(_) => {}
            None if self.by_name.len() >= MEMBERS_MAX => return MemberReply::Full,
            None => {}
        }
        let member = ChangedMember { peer: Some(peer), client: None, standing: Standing::Belongs };
        self.by_name.insert(name, member);
        MemberReply::Done
    }

    /// Also of a node of the file, of which nothing is known here before.
    fn remove(&mut self, name: String) -> MemberReply {
        if self.by_name.len() >= MEMBERS_MAX && !self.by_name.contains_key(&name) {
            return MemberReply::Full;
        }
        let unknown = ChangedMember { peer: None, client: None, standing: Standing::Belongs };
        let member = self.by_name.entry(name).or_insert(unknown);
        if member.standing == Standing::Gone {
            return MemberReply::Unknown;
        }
        member.standing = Standing::Leaves;
        MemberReply::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(peer: &str) -> MemberCommand {
        MemberCommand::Add { name: "n4".to_owned(), peer: peer.to_owned() }
    }

    #[test]
    fn a_node_comes_goes_and_comes_back_and_every_step_may_be_repeated() {
        let mut members = MemberChanges::default();
        let name = || "n4".to_owned();
        let steps = [
            (add("a:1"), MemberReply::Done, Some(Standing::Belongs)),
            (add("b:1"), MemberReply::Exists, Some(Standing::Belongs)),
            (MemberCommand::Forget { name: name() }, MemberReply::Unknown, Some(Standing::Belongs)),
            (MemberCommand::Remove { name: name() }, MemberReply::Done, Some(Standing::Leaves)),
            (add("a:1"), MemberReply::Exists, Some(Standing::Leaves)),
            (MemberCommand::Forget { name: name() }, MemberReply::Done, Some(Standing::Gone)),
            (MemberCommand::Remove { name: name() }, MemberReply::Unknown, Some(Standing::Gone)),
            (add("b:1"), MemberReply::Done, Some(Standing::Belongs)),
        ];
        for (command, reply, standing) in steps {
            for _ in 0..2 {
                let said = members.apply(command.clone());
                let is_repeated_forget = said == MemberReply::Done && reply == MemberReply::Done;
                assert!(said == reply || is_repeated_forget, "{command:?}: {said:?}");
            }
            assert_eq!(members.get("n4").map(|member| member.standing), standing, "{command:?}");
        }
        assert_eq!(members.get("n4").unwrap().peer.as_deref(), Some("b:1"));
    }

    #[test]
    fn a_node_of_the_file_can_be_removed() {
        let mut members = MemberChanges::default();
        let remove = MemberCommand::Remove { name: "n1".to_owned() };
        assert_eq!(members.apply(remove), MemberReply::Done);
        assert_eq!(members.get("n1").unwrap().peer, None);
    }
}
