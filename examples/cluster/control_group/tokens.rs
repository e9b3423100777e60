//! Who may call: tokens, without what proves that one has them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How many tokens there may be.
const TOKENS_MAX: usize = 10_000;
/// For how long a token that has ended is still listed: 30 days.
const KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// What the owner of a token may do. Each may do all that those before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
pub(crate) enum Role {
    /// Look.
    Reader,
    /// Use locks, queues and the cache.
    Writer,
    /// Everything.
    Admin,
}

impl Role {
    /// The word that people and the HTTP interface use.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Admin => "admin",
        }
    }
}

/// The SHA-256 of a secret. The secret has 256 random bits: nothing slower is needed to keep it
/// from being guessed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecretHash(pub(crate) [u8; 32]);

/// Tells nothing of it: it is no secret, but nobody's business either.
impl fmt::Debug for SecretHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretHash(_)")
    }
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    /// Its public part, by which it is found.
    pub(crate) id: String,
    /// What its owner may do.
    pub(crate) role: Role,
    /// What people call it.
    pub(crate) name: String,
    /// What proves that one has it.
    pub(crate) secret: SecretHash,
    /// When it was made, in milliseconds since 1970.
    pub(crate) created_ms: u64,
    /// From when on it is worth nothing, if ever.
    pub(crate) expires_ms: Option<u64>,
    /// When it was revoked.
    pub(crate) revoked_ms: Option<u64>,
}

impl Token {
    /// Whether it is worth anything at this time.
    pub(crate) fn is_valid(&self, now_ms: u64) -> bool {
        self.revoked_ms.is_none() && self.expires_ms.is_none_or(|expires| now_ms < expires)
    }

    /// When it has ended, or will.
    fn end_ms(&self) -> Option<u64> {
        self.expires_ms.into_iter().chain(self.revoked_ms).min()
    }
}

/// A change of the tokens. Each may be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TokenCommand {
    /// This token is worth something from here on.
    Create(Token),
    /// This one is not any more.
    Revoke { id: String, at_ms: u64 },
}

/// What a [`TokenCommand`] is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TokenReply {
    /// It is so now.
    Done,
    /// Another token has this id.
    Exists,
    /// There are as many tokens as there may be.
    Full,
    /// No token has this id.
    Unknown,
}

/// All tokens, by their ids. Deterministic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Tokens(BTreeMap<String, Token>);

impl Tokens {
    pub(super) fn apply(&mut self, command: TokenCommand) -> TokenReply {
        match command {
            TokenCommand::Create(token) => self.create(token),
            TokenCommand::Revoke { id, at_ms } => match self.0.get_mut(&id) {
                Some(token) => {
                    token.revoked_ms.get_or_insert(at_ms);
                    TokenReply::Done
                }
                None => TokenReply::Unknown,
            },
        }
    }

    fn create(&mut self, token: Token) -> TokenReply {
        if let Some(there) = self.0.get(&token.id) {
            // It may have been revoked since: a command that comes twice does not undo that.
            let is_same = Token { revoked_ms: token.revoked_ms, ..there.clone() } == token;
            return if is_same { TokenReply::Done } else { TokenReply::Exists };
        }
        let forgotten = token.created_ms.saturating_sub(KEPT_MS);
        self.0.retain(|_, token| token.end_ms().is_none_or(|end| end > forgotten));
        if self.0.len() >= TOKENS_MAX {
            return TokenReply::Full;
        }
        self.0.insert(token.id.clone(), token);
        TokenReply::Done
    }

    /// The token with this id.
    pub(crate) fn get(&self, id: &str) -> Option<&Token> {
        self.0.get(id)
    }

    /// Every token, in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Token> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str, created_ms: u64) -> Token {
        Token {
            id: id.to_owned(),
            role: Role::Writer,
            name: "ci".to_owned(),
            secret: SecretHash([7; 32]),
            created_ms,
            expires_ms: None,
            revoked_ms: None,
        }
    }

    fn revoke(id: &str, at_ms: u64) -> TokenCommand {
        TokenCommand::Revoke { id: id.to_owned(), at_ms }
    }

    #[test]
    fn a_token_is_worth_something_until_it_expires_or_is_revoked() {
        let mut tokens = Tokens::default();
        let expiring = Token { expires_ms: Some(100), ..token("a", 1) };
        assert_eq!(tokens.apply(TokenCommand::Create(expiring)), TokenReply::Done);
        let is_valid = |tokens: &Tokens, at| tokens.get("a").unwrap().is_valid(at);
        assert!(is_valid(&tokens, 99) && !is_valid(&tokens, 100));
        for _ in 0..2 {
            assert_eq!(tokens.apply(revoke("a", 50)), TokenReply::Done);
        }
        assert!(!is_valid(&tokens, 2));
        assert_eq!(tokens.apply(revoke("b", 50)), TokenReply::Unknown);
    }

    #[test]
    fn creating_again_changes_nothing_and_does_not_undo_a_revocation() {
        let mut tokens = Tokens::default();
        let create = TokenCommand::Create(token("a", 1));
        tokens.apply(create.clone());
        tokens.apply(revoke("a", 2));
        assert_eq!(tokens.apply(create), TokenReply::Done);
        assert_eq!(tokens.get("a").unwrap().revoked_ms, Some(2));
        let other = Token { secret: SecretHash([8; 32]), ..token("a", 1) };
        assert_eq!(tokens.apply(TokenCommand::Create(other)), TokenReply::Exists);
        assert_eq!(tokens.get("a").unwrap().secret, SecretHash([7; 32]));
    }

    #[test]
    fn tokens_are_bounded_and_those_that_ended_long_ago_make_room() {
        let mut tokens = Tokens::default();
        for number in 0..TOKENS_MAX {
            tokens.apply(TokenCommand::Create(token(&number.to_string(), 1)));
        }
        let one_more = |at| TokenCommand::Create(token("more", at));
        assert_eq!(tokens.apply(one_more(2)), TokenReply::Full);
        tokens.apply(revoke("17", 2));
        assert_eq!(tokens.apply(one_more(1 + KEPT_MS)), TokenReply::Full);
        assert_eq!(tokens.apply(one_more(2 + KEPT_MS)), TokenReply::Done);
        assert!(tokens.get("17").is_none() && tokens.get("18").is_some());
    }

    #[test]
    fn each_role_may_do_what_those_before_it_may() {
        assert!(Role::Reader < Role::Writer && Role::Writer < Role::Admin);
    }

    #[test]
    fn the_hash_of_a_secret_is_not_told() {
        let text = format!("{:?}", token("a", 1));
        assert!(!text.contains("7, 7") && text.contains("SecretHash(_)"), "{text}");
    }
}
