//! Topics: what they are set to, what they hold.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use dss_queue::{BrokerError, TopicInfo, TopicName, TopicSettings};
use dss_raft::NodeId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Answer, Json, Name, Named};
use super::problem::{Code, Problem};
use super::refusal::Refusal;
use super::route::{Access, Route};
use super::routing::Conduct;
use super::values::{RetentionMs, VisibilityMs, millis};
use crate::app::App;

pub(crate) fn routes() -> Vec<Route> {
    let path = "/v1/queues/{topic}";
    vec![
        Route::put(path, Access::Writer, configure)
            .named("configureTopic", "Creates a topic or changes its settings.")
            .conduct(Conduct::ActsIdempotently)
            .of_topic()
            .takes::<Settings>()
            .answers::<Configured>(StatusCode::OK, "The settings as they are now."),
        Route::get(path, Access::Reader, show)
            .named("getTopic", "Shows a topic with its groups.")
            .answers::<Topic>(StatusCode::OK, "The topic.")
            .refuses(&[Code::NotFound]),
        Route::get("/v1/queues", Access::Reader, list)
            .named("listTopics", "Lists the topics.")
            .answers::<Topics>(StatusCode::OK, "Their names, in order."),
        Route::delete(path, Access::Admin, delete)
            .named("deleteTopic", "Deletes a topic with all its messages.")
            .of_topic()
            .answers_nothing("It is gone.")
            .refuses(&[Code::NotFound]),
    ]
}

/// The settings of a topic; what is left out is set to its default.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// How long a delivery is a consumer's alone, where its receive does not say: 30 s where left
    /// out.
    #[schema(inline)]
    visibility_ms: Option<VisibilityMs>,
    /// How often a message is delivered to a group before it is given up: 5 where left out.
    #[schema(minimum = 1)]
    max_attempts: Option<u32>,
    /// How long a message is kept at most; without end where left out.
    #[schema(inline)]
    retention_ms: Option<RetentionMs>,
    /// How many messages are kept at most; without limit where left out.
    #[schema(minimum = 1)]
    max_length: Option<u64>,
}

/// The settings of a topic.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct SettingsInForce {
    visibility_ms: u64,
    max_attempts: u32,
    retention_ms: Option<u64>,
    max_length: Option<u64>,
}

/// A topic was set up.
#[derive(Debug, Serialize, ToSchema)]
struct Configured {
    topic: String,
    settings: SettingsInForce,
}

/// A topic.
#[derive(Debug, Serialize, ToSchema)]
struct Topic {
    topic: String,
    /// The shard that it lies on.
    shard: String,
    /// Who serves that shard; `null` while nobody does.
    home: Option<String>,
    settings: SettingsInForce,
    /// How many messages are kept.
    length: u64,
    /// How far each group is.
    groups: BTreeMap<String, Group>,
}

/// How far a group is in its topic.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct Group {
    /// Messages to be delivered.
    ready: u64,
    /// Messages that are delivered and not settled.
    in_flight: u64,
    /// Messages that are held back.
    delayed: u64,
    /// Messages that were given up.
    dead: u64,
}

/// The topics.
#[derive(Debug, Serialize, ToSchema)]
struct Topics {
    topics: Vec<String>,
}

impl Named for TopicName {
    fn named(name: String) -> Result<Self, String> {
        Self::new(name).map_err(|error| error.to_string())
    }
}

async fn configure(
    State(app): State<App>,
    Name(topic): Name<TopicName>,
    Json(body): Json<Settings>,
) -> Result<Answer<Configured>, Refusal> {
    let settings = body.into_settings()?;
    let in_force = SettingsInForce::from(&settings);
    app.queues.configure(&topic, settings).await?;
    Ok(Answer(Configured { topic: topic.as_str().to_owned(), settings: in_force }))
}

impl Settings {
    fn into_settings(self) -> Result<TopicSettings, Problem> {
        if self.max_attempts == Some(0) {
            return Err(Problem::invalid_field("max_attempts", "0 is not at least 1"));
        }
        if self.max_length == Some(0) {
            return Err(Problem::invalid_field("max_length", "0 is not at least 1"));
        }
        let default = TopicSettings::default();
        Ok(TopicSettings {
            visibility: self.visibility_ms.map_or(default.visibility, VisibilityMs::get),
            max_attempts: self.max_attempts.unwrap_or(default.max_attempts),
            retention: self.retention_ms.map(RetentionMs::get),
            max_length: self.max_length,
            ..default
        })
    }
}

async fn show(
    State(app): State<App>,
    Name(topic): Name<TopicName>,
) -> Result<Answer<Topic>, Refusal> {
    let mut info = app.queues.topic(&topic).await?;
    // Raft knows nodes by number, clients by name; a Redis server is known by its address.
    let named = |home: &str| app.members.name(NodeId::new(home.parse().ok()?));
    if let Some(name) = info.home.as_deref().and_then(named) {
        info.home = Some(name);
    }
    Ok(Answer(info.into()))
}

async fn list(State(app): State<App>) -> Result<Answer<Topics>, Refusal> {
    let mut topics: Vec<_> =
        app.queues.topics().await?.into_iter().map(|topic| topic.as_str().to_owned()).collect();
    topics.sort_unstable();
    Ok(Answer(Topics { topics }))
}

async fn delete(
    State(app): State<App>,
    Name(topic): Name<TopicName>,
) -> Result<StatusCode, Refusal> {
    app.queues.delete(&topic).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<&TopicSettings> for SettingsInForce {
    fn from(settings: &TopicSettings) -> Self {
        Self {
            visibility_ms: millis(settings.visibility),
            max_attempts: settings.max_attempts,
            retention_ms: settings.retention.map(|span: Duration| millis(span)),
            max_length: settings.max_length,
        }
    }
}

impl From<TopicInfo> for Topic {
    fn from(info: TopicInfo) -> Self {
        let groups = info.groups.into_iter().map(|(name, group)| {
            let group = Group {
                ready: group.ready,
                in_flight: group.in_flight,
                delayed: group.delayed,
                dead: group.dead,
            };
            (name.as_str().to_owned(), group)
        });
        Self {
            topic: info.topic.as_str().to_owned(),
            shard: info.shard,
            home: info.home,
            settings: SettingsInForce::from(&info.settings),
            length: info.length,
            groups: groups.collect(),
        }
    }
}

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        let code = match error {
            BrokerError::NotLeader { leader } => return Self::not_leader(leader),
            BrokerError::NotFound => Code::NotFound,
            BrokerError::Invalid { .. } => Code::InvalidRequest,
            BrokerError::Overloaded => Code::Overloaded,
            BrokerError::TooLarge { .. } => Code::PayloadTooLarge,
            BrokerError::Fenced => Code::StaleToken,
            BrokerError::Unavailable | BrokerError::Moving => Code::Unavailable,
            // Of a failure that is not known here, nothing may be promised.
            _ => Code::OutcomeUnknown,
        };
        Problem::new(code, error.to_string()).into()
    }
}
