//! Messages: published, delivered to groups, settled and given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use dss_queue::limits::{
    BATCH_BYTES_MAX, PUBLISH_MESSAGES_MAX, RECEIPTS_MAX, RECEIVE_MESSAGES_MAX,
};
use dss_queue::{
    ConsumerName, DeadLetter, DeadReason, Delivery, GroupName, NewMessage, Receipt, ReceiveRequest,
    Settled, TopicName,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Answer, Json, Name, Named, Names, check_name};
use super::fence::Fence;
use super::metrics::{Counter, Recorder};
use super::problem::{Code, Problem};
use super::refusal::Refusal;
use super::route::{Access, Route};
use super::routing::Conduct;
use super::values::{DelayMs, Instant, Payload, PollMs, VisibilityMs, payload};
use crate::app::App;

/// For how long an extension runs where the client does not say: as long as a delivery by default.
const EXTENSION: Duration = Duration::from_secs(30);

pub(crate) fn routes() -> Vec<Route> {
    let routes = [
        Route::post("/v1/queues/{topic}/messages", Access::Writer, publish)
            .named("publish", "Stores messages; creates the topic where there is none.")
            .conduct(Conduct::Publishes)
            .takes::<Publish>()
            .answers::<Published>(StatusCode::CREATED, "They are durable.")
            .fenced(),
        Route::post("/v1/queues/{topic}/groups/{group}/receive", Access::Writer, receive)
            .named(
                "receive",
                "Hands messages to a consumer, waiting for them where there are none.",
            )
            .conduct(Conduct::Receives)
            .takes::<Receive>()
            .answers::<Received>(StatusCode::OK, "The messages; none where there were none.")
            .refuses(&[Code::NotFound]),
        Route::post("/v1/queues/{topic}/groups/{group}/ack", Access::Writer, ack)
            .named("ack", "Settles deliveries for good.")
            .takes::<Ack>()
            .answers::<Acked>(StatusCode::OK, "How many were settled, and which could not be.")
            .refuses(&[Code::NotFound]),
        Route::post("/v1/queues/{topic}/groups/{group}/nack", Access::Writer, nack)
            .named("nack", "Gives deliveries back, to be delivered again.")
            .takes::<Nack>()
            .answers::<Nacked>(StatusCode::OK, "How many were given back, and which could not be.")
            .refuses(&[Code::NotFound]),
        Route::post("/v1/queues/{topic}/groups/{group}/extend", Access::Writer, extend)
            .named("extend", "Keeps deliveries for longer.")
            .takes::<Extend>()
            .answers::<Extended>(StatusCode::OK, "How many were kept, and which could not be.")
            .refuses(&[Code::NotFound]),
        Route::get("/v1/queues/{topic}/groups/{group}/dead", Access::Reader, dead)
            .named("listDeadLetters", "Lists the messages that were given up, oldest first.")
            .answers::<Dead>(StatusCode::OK, "Up to a thousand of them, and up to 4 MiB.")
            .refuses(&[Code::NotFound]),
        Route::post("/v1/queues/{topic}/groups/{group}/dead/redrive", Access::Writer, redrive)
            .named("redrive", "Delivers the messages that were given up once more.")
            .takes::<Redrive>()
            .answers::<Redriven>(StatusCode::OK, "How many will be.")
            .refuses(&[Code::NotFound]),
    ];
    routes.map(Route::of_topic).into()
}

/// Messages to store.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Publish {
    #[schema(min_items = 1)]
    messages: Vec<Message>,
}

/// A message to store, with one of `payload` and `payload_base64`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Message {
    /// What it says, as text.
    payload: Option<String>,
    /// What it says, as base64 of any bytes.
    payload_base64: Option<String>,
    /// Messages of the same key are delivered in order.
    key: Option<String>,
    /// How long it is held back.
    #[schema(inline)]
    delay_ms: Option<DelayMs>,
    /// Published again within five minutes, it is stored once.
    dedupe_id: Option<String>,
    /// Whatever else consumers should know.
    headers: Option<BTreeMap<String, String>>,
}

/// Messages were stored.
#[derive(Debug, Serialize, ToSchema)]
struct Published {
    /// Their ids, in the order in which they were given.
    ids: Vec<String>,
}

/// What to receive.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Receive {
    /// Who receives.
    consumer: String,
    /// How many messages at most: 1 to 1000, 1 where left out.
    #[schema(minimum = 1, maximum = 1000)]
    max: Option<usize>,
    /// How long to wait for the first one; 0, where left out, is not at all.
    #[schema(inline)]
    wait_ms: Option<PollMs>,
    /// How long they are this consumer's alone; what the topic says where left out.
    #[schema(inline)]
    visibility_ms: Option<VisibilityMs>,
}

/// Messages for a consumer.
#[derive(Debug, Serialize, ToSchema)]
struct Received {
    messages: Vec<Delivered>,
}

/// A message for a consumer, with one of `payload` and `payload_base64`.
#[derive(Debug, Serialize, ToSchema)]
struct Delivered {
    id: String,
    /// What it says, where that is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// What it says, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    key: Option<String>,
    headers: BTreeMap<String, String>,
    /// The how many-th delivery to this group it is.
    attempt: u32,
    /// What settles it.
    receipt: String,
    #[schema(inline)]
    produced_at: Instant,
}

/// Deliveries to settle.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Ack {
    receipts: Vec<String>,
}

/// Deliveries were settled.
#[derive(Debug, Serialize, ToSchema)]
struct Acked {
    acked: usize,
    /// Receipts that settle nothing: they were used, ran out, or never were.
    stale: Vec<String>,
}

/// Deliveries to give back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Nack {
    receipts: Vec<String>,
    /// How long to hold them back; 0 where left out.
    #[schema(inline)]
    delay_ms: Option<DelayMs>,
}

/// Deliveries were given back.
#[derive(Debug, Serialize, ToSchema)]
struct Nacked {
    returned: usize,
    /// Receipts that settle nothing: they were used, ran out, or never were.
    stale: Vec<String>,
}

/// Deliveries to keep.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Extend {
    receipts: Vec<String>,
    /// For how long, from now on; 30 s where left out.
    #[schema(inline)]
    visibility_ms: Option<VisibilityMs>,
}

/// Deliveries are kept.
#[derive(Debug, Serialize, ToSchema)]
struct Extended {
    extended: usize,
    /// Receipts that keep nothing: they were used, ran out, or never were.
    stale: Vec<String>,
}

/// Messages that were given up.
#[derive(Debug, Serialize, ToSchema)]
struct Dead {
    messages: Vec<DeadMessage>,
}

/// A message that was given up, with one of `payload` and `payload_base64`.
#[derive(Debug, Serialize, ToSchema)]
struct DeadMessage {
    id: String,
    /// What it says, where that is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// What it says, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    key: Option<String>,
    headers: BTreeMap<String, String>,
    /// How often it was delivered to this group.
    attempts: u32,
    #[schema(inline)]
    produced_at: Instant,
    #[schema(inline)]
    died_at: Instant,
    /// `expired` where the last delivery was not settled in time, `rejected` where it was given
    /// back.
    reason: &'static str,
    /// Who had it last; `null` where that is not known.
    consumer: Option<String>,
}

/// Nothing can be chosen yet; what is misspelt is not ignored either.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Redrive {}

/// Messages will be delivered once more.
#[derive(Debug, Serialize, ToSchema)]
struct Redriven {
    redriven: u64,
}

impl Named for GroupName {
    fn named(name: String) -> Result<Self, String> {
        Self::new(name).map_err(|error| error.to_string())
    }
}

async fn publish(
    State(app): State<App>,
    State(recorder): State<Arc<Recorder>>,
    Name(topic): Name<TopicName>,
    headers: HeaderMap,
    Json(body): Json<Publish>,
) -> Result<(StatusCode, Answer<Published>), Refusal> {
    at_most(PUBLISH_MESSAGES_MAX, body.messages.len(), "messages")?;
    if body.messages.is_empty() {
        return Err(Problem::invalid_field("messages", "there is none").into());
    }
    let messages: Result<Vec<_>, _> =
        body.messages.into_iter().map(Message::into_message).collect();
    let messages = messages?;
    let ids = match Fence::of(&headers)? {
        Some(fence) => app.queues.publish_fenced(&topic, messages, fence.into()).await?,
        None => app.queues.publish(&topic, messages).await?,
    };
    recorder.count(Counter::MessagesPublished, ids.len());
    let ids = ids.iter().map(ToString::to_string).collect();
    Ok((StatusCode::CREATED, Answer(Published { ids })))
}

impl Message {
    fn into_message(self) -> Result<NewMessage, Problem> {
        for (field, name) in [("key", &self.key), ("dedupe_id", &self.dedupe_id)] {
            name.as_deref()
                .map_or(Ok(()), check_name)
                .map_err(|problem| Problem::invalid_field(field, problem))?;
        }
        Ok(NewMessage {
            payload: payload(self.payload, self.payload_base64.as_deref())?,
            key: self.key,
            delay: self.delay_ms.map(DelayMs::get).unwrap_or_default(),
            dedupe_id: self.dedupe_id,
            headers: self.headers.unwrap_or_default(),
        })
    }
}

async fn receive(
    State(app): State<App>,
    State(recorder): State<Arc<Recorder>>,
    Names(topic, group): Names<TopicName, GroupName>,
    Json(body): Json<Receive>,
) -> Result<Answer<Received>, Refusal> {
    let request = body.into_request()?;
    let deliveries = app.queues.receive(&topic, &group, request).await?;
    recorder.count(Counter::MessagesDelivered, deliveries.len());
    Ok(Answer(Received { messages: deliveries.into_iter().map(Delivered::from).collect() }))
}

impl Receive {
    fn into_request(self) -> Result<ReceiveRequest, Problem> {
        let max = self.max.unwrap_or(1);
        if !(1..=RECEIVE_MESSAGES_MAX).contains(&max) {
            let problem = format_args!("{max} is not from 1 to {RECEIVE_MESSAGES_MAX}");
            return Err(Problem::invalid_field("max", problem));
        }
        Ok(ReceiveRequest {
            consumer: ConsumerName::new(self.consumer)
                .map_err(|error| Problem::invalid_field("consumer", error))?,
            max,
            wait: self.wait_ms.map(PollMs::get).unwrap_or_default(),
            visibility: self.visibility_ms.map(VisibilityMs::get),
        })
    }
}

async fn ack(
    State(app): State<App>,
    State(recorder): State<Arc<Recorder>>,
    Names(topic, group): Names<TopicName, GroupName>,
    Json(body): Json<Ack>,
) -> Result<Answer<Acked>, Refusal> {
    let receipts = Receipts::parse(body.receipts)?;
    let settled = app.queues.ack(&topic, &group, receipts.known).await?;
    recorder.count(Counter::MessagesAcknowledged, settled.done);
    Ok(Answer(Acked { acked: settled.done, stale: all_stale(receipts.unknown, &settled) }))
}

async fn nack(
    State(app): State<App>,
    State(recorder): State<Arc<Recorder>>,
    Names(topic, group): Names<TopicName, GroupName>,
    Json(body): Json<Nack>,
) -> Result<Answer<Nacked>, Refusal> {
    let receipts = Receipts::parse(body.receipts)?;
    let delay = body.delay_ms.map(DelayMs::get).unwrap_or_default();
    let settled = app.queues.nack(&topic, &group, receipts.known, delay).await?;
    recorder.count(Counter::MessagesReturned, settled.done);
    Ok(Answer(Nacked { returned: settled.done, stale: all_stale(receipts.unknown, &settled) }))
}

async fn extend(
    State(app): State<App>,
    Names(topic, group): Names<TopicName, GroupName>,
    Json(body): Json<Extend>,
) -> Result<Answer<Extended>, Refusal> {
    let receipts = Receipts::parse(body.receipts)?;
    let visibility = body.visibility_ms.map_or(EXTENSION, VisibilityMs::get);
    let extended = app.queues.extend(&topic, &group, receipts.known, visibility).await;
    let settled = extended?;
    Ok(Answer(Extended { extended: settled.done, stale: all_stale(receipts.unknown, &settled) }))
}

async fn dead(
    State(app): State<App>,
    Names(topic, group): Names<TopicName, GroupName>,
) -> Result<Answer<Dead>, Refusal> {
    let letters = app.queues.dead_letters(&topic, &group).await?;
    let mut bytes = 0;
    let fitting = letters.into_iter().enumerate().take_while(|(place, letter)| {
        bytes += letter.payload.len();
        *place == 0 || bytes <= BATCH_BYTES_MAX
    });
    Ok(Answer(Dead { messages: fitting.map(|(_, letter)| letter.into()).collect() }))
}

async fn redrive(
    State(app): State<App>,
    Names(topic, group): Names<TopicName, GroupName>,
    Json(Redrive {}): Json<Redrive>,
) -> Result<Answer<Redriven>, Refusal> {
    let redriven = app.queues.redrive(&topic, &group).await?;
    Ok(Answer(Redriven { redriven }))
}

/// What a client showed as receipts.
struct Receipts {
    known: Vec<Receipt>,
    /// Texts that are no receipt settle as little as one that ran out, and are answered alike.
    unknown: Vec<String>,
}

impl Receipts {
    fn parse(texts: Vec<String>) -> Result<Self, Problem> {
        at_most(RECEIPTS_MAX, texts.len(), "receipts")?;
        let mut receipts = Self { known: Vec::new(), unknown: Vec::new() };
        for text in texts {
            match text.parse() {
                Ok(receipt) => receipts.known.push(receipt),
                Err(_) => receipts.unknown.push(text),
            }
        }
        Ok(receipts)
    }
}

fn all_stale(unknown: Vec<String>, settled: &Settled) -> Vec<String> {
    settled.stale.iter().map(ToString::to_string).chain(unknown).collect()
}

fn at_most(limit: usize, count: usize, field: &str) -> Result<(), Problem> {
    if count <= limit {
        return Ok(());
    }
    let problem = format_args!("{count} are more than {limit}");
    Err(Problem::invalid_field(field, problem))
}

impl From<Delivery> for Delivered {
    fn from(delivery: Delivery) -> Self {
        let (payload, payload_base64) = Payload::from(&delivery.payload).into_members();
        Self {
            id: delivery.id.to_string(),
            payload,
            payload_base64,
            key: delivery.key,
            headers: delivery.headers,
            attempt: delivery.attempt,
            receipt: delivery.receipt.to_string(),
            produced_at: Instant::from_unix_millis(delivery.produced_at.get()),
        }
    }
}

impl From<DeadLetter> for DeadMessage {
    fn from(letter: DeadLetter) -> Self {
        let (payload, payload_base64) = Payload::from(&letter.payload).into_members();
        Self {
            id: letter.id.to_string(),
            payload,
            payload_base64,
            key: letter.key,
            headers: letter.headers,
            attempts: letter.attempts,
            produced_at: Instant::from_unix_millis(letter.produced_at.get()),
            died_at: Instant::from_unix_millis(letter.died_at.get()),
            reason: match letter.reason {
                DeadReason::Expired => "expired",
                DeadReason::Rejected => "rejected",
            },
            consumer: letter.consumer.map(|consumer| consumer.as_str().to_owned()),
        }
    }
}
