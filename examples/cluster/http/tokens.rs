//! Tokens: who may call.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Answer, Json, Name, Named, check_name};
use super::problem::{Code, Problem};
use super::route::{Access, Route};
use super::routing::Conduct;
use super::values::{DelayMs, Instant, millis};
use crate::app::App;
use crate::auth::Credential;
use crate::control_group::{
    ControlCommand, ControlReply, NoMajority, Role, Token, TokenCommand, TokenReply,
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::post("/v1/tokens", Access::Admin, create)
            .named("createToken", "Makes a token. Its secret is in this answer and nowhere else.")
            .guarded()
            .takes::<CreateToken>()
            .answers::<CreatedToken>(StatusCode::CREATED, "It is valid, everywhere in a second."),
        Route::get("/v1/tokens", Access::Admin, list)
            .named("listTokens", "Shows every token, without its secret.")
            .guarded()
            .answers::<TokenList>(StatusCode::OK, "In the order of their ids."),
        Route::delete("/v1/tokens/{id}", Access::Admin, revoke)
            .named("revokeToken", "Revokes a token: nobody can use it any more.")
            .guarded()
            .conduct(Conduct::ActsIdempotently)
            .answers_nothing("It is not valid any more, nowhere in a second.")
            .refuses(&[Code::NotFound]),
    ]
}

/// What its owner may do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum RoleName {
    Reader,
    Writer,
    Admin,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Reader => Self::Reader,
            RoleName::Writer => Self::Writer,
            RoleName::Admin => Self::Admin,
        }
    }
}

impl From<Role> for RoleName {
    fn from(role: Role) -> Self {
        match role {
            Role::Reader => Self::Reader,
            Role::Writer => Self::Writer,
            Role::Admin => Self::Admin,
        }
    }
}

/// What token to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateToken {
    role: RoleName,
    /// What people call it: 1 to 512 bytes without control characters.
    #[schema(min_length = 1, max_length = 512)]
    name: String,
    /// After this time it is worth nothing. Left out, it does not expire.
    #[schema(inline)]
    expires_in_ms: Option<DelayMs>,
}

/// A token without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct TokenDetails {
    /// Its public part.
    id: String,
    role: RoleName,
    name: String,
    #[schema(inline)]
    created_at: Instant,
    #[schema(inline)]
    expires_at: Option<Instant>,
    #[schema(inline)]
    revoked_at: Option<Instant>,
    /// Whether it is worth something at the moment.
    valid: bool,
}

/// A token that was made.
#[derive(Debug, Serialize, ToSchema)]
struct CreatedToken {
    /// The token itself, for its owner: `authorization: Bearer <token>`. It cannot be shown again.
    token: String,
    #[serde(flatten)]
    details: TokenDetails,
}

/// All tokens. Those that ended more than 30 days ago may be missing.
#[derive(Debug, Serialize, ToSchema)]
struct TokenList {
    tokens: Vec<TokenDetails>,
}

/// The public part of a token.
#[derive(Debug)]
struct TokenId(String);

impl Named for TokenId {
    fn named(name: String) -> Result<Self, String> {
        Ok(Self(name))
    }
}

impl TokenDetails {
    fn of(token: &Token, now: u64) -> Self {
        Self {
            id: token.id.clone(),
            role: token.role.into(),
            name: token.name.clone(),
            created_at: Instant::from_unix_millis(token.created_ms),
            expires_at: token.expires_ms.map(Instant::from_unix_millis),
            revoked_at: token.revoked_ms.map(Instant::from_unix_millis),
            valid: token.is_valid(now),
        }
    }
}

async fn create(
    State(app): State<App>,
    Json(CreateToken { role, name, expires_in_ms }): Json<CreateToken>,
) -> Result<Response, Problem> {
    check_name(&name).map_err(|problem| Problem::invalid_field("name", problem))?;
    let credential = Credential::generate()
        .map_err(|error| Problem::new(Code::Unavailable, error.to_string()))?;
    let now = now_ms();
    let token = Token {
        id: credential.id().to_owned(),
        role: role.into(),
        name,
        secret: credential.hash(),
        created_ms: now,
        expires_ms: expires_in_ms.map(|span| now.saturating_add(millis(span.get()))),
        revoked_ms: None,
    };
    let details = TokenDetails::of(&token, now);
    match change(&app, TokenCommand::Create(token)).await? {
        TokenReply::Done => {}
        TokenReply::Full => {
            return Err(Problem::new(Code::Unavailable, "there are as many tokens as may be"));
        }
        TokenReply::Exists | TokenReply::Unknown => {
            return Err(Problem::new(Code::Unavailable, "the same was made by chance: try again"));
        }
    }
    let created = CreatedToken { token: credential.reveal().to_owned(), details };
    let uncached = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, uncached, axum::Json(created)).into_response())
}

async fn list(State(app): State<App>) -> Answer<TokenList> {
    let now = now_ms();
    let state = app.control.state();
    let tokens = state.tokens.iter().map(|token| TokenDetails::of(token, now)).collect();
    Answer(TokenList { tokens })
}

async fn revoke(
    State(app): State<App>,
    Name(TokenId(id)): Name<TokenId>,
) -> Result<StatusCode, Problem> {
    match change(&app, TokenCommand::Revoke { id, at_ms: now_ms() }).await? {
        TokenReply::Unknown => Err(Problem::new(Code::NotFound, "there is no such token")),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

/// Has the cluster make the change, and waits until this node knows it: who asks here again finds
/// it made.
async fn change(app: &App, command: TokenCommand) -> Result<TokenReply, Problem> {
    let unknown = |NoMajority| Problem::new(Code::OutcomeUnknown, NoMajority.to_string());
    let reply = app.control.propose(&ControlCommand::Token(command)).await.map_err(unknown)?;
    let ControlReply::Token(reply) = reply else {
        let detail = "the node that leads runs another version";
        return Err(Problem::new(Code::Unavailable, detail));
    };
    app.control.catch_up().await.map_err(unknown)?;
    Ok(reply)
}

fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default()
}
