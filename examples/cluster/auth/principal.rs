//! Whoever makes a request.

use crate::control_group::Role;
use crate::http::Access;

/// Whoever makes a request, as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Principal {
    /// Nobody has asked: tokens are not needed.
    Anybody,
    /// Somebody without a token that is worth something; the public part of the one that was
    /// given, if it looked like one.
    Unknown { id: Option<String> },
    /// The owner of a token.
    Owner { id: String, name: String, role: Role },
}

/// Whether `principal` may do what needs `access`. The only place that decides it: every route
/// asks here, and so does what a request touches beside its route.
pub(crate) fn authorize(principal: &Principal, access: Access) -> bool {
    let needed = match access {
        Access::Public => return true,
        Access::Reader => Role::Reader,
        Access::Writer => Role::Writer,
        Access::Admin => Role::Admin,
    };
    match principal {
        Principal::Anybody => true,
        Principal::Unknown { .. } => false,
        Principal::Owner { role, .. } => *role >= needed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_may_do_what_stands_in_the_table() {
        let owner = |role| Principal::Owner { id: String::new(), name: String::new(), role };
        let all = [Access::Public, Access::Reader, Access::Writer, Access::Admin];
        for (principal, allowed) in [
            (Principal::Anybody, [true; 4]),
            (Principal::Unknown { id: Some("abc".to_owned()) }, [true, false, false, false]),
            (owner(Role::Reader), [true, true, false, false]),
            (owner(Role::Writer), [true, true, true, false]),
            (owner(Role::Admin), [true; 4]),
        ] {
            assert_eq!(all.map(|access| authorize(&principal, access)), allowed, "{principal:?}");
        }
    }
}
