//! One Redis server, and the connection to it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisResult, ScriptInvocation};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::address::RedisAddress;
use super::failure::{RedisFailure, leaves_connection_usable, one_line};

/// How long connecting may take, with everything that is said before the first command.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// How long an answer may take. Less than the cache waits for its main memory, so that it is told
/// which server was silent.
const RESPONSE_LIMIT: Duration = Duration::from_millis(1500);
/// After a failed attempt, nobody else tries to connect for this long: requests fail at once.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// How often the server is asked whether it is there. A broken connection is noticed then at the
/// latest, rather than by the next request, whose outcome would be unknown.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// How many requests may wait to be written to the connection.
const PIPELINE: usize = 1024;

/// One Redis server: a connection that all requests share, made anew where it breaks.
///
/// No request is repeated here: whoever asks knows whether that is harmless.
pub(crate) struct RedisNode {
    address: RedisAddress,
    client: Client,
    connection: Mutex<Connection>,
    standing: watch::Sender<Result<(), String>>,
}

/// The connection to a server, or the last attempt to have one.
#[derive(Default)]
struct Connection {
    /// Counts connections, so that an old one that fails does not take the new one along.
    number: u64,
    current: Option<MultiplexedConnection>,
    failed: Option<(Instant, String)>,
}

impl RedisNode {
    /// Begins to look after the server, inside a tokio runtime. It need not be there.
    pub(crate) fn start(address: RedisAddress) -> Arc<Self> {
        let client = address.client();
        let (standing, _) =
            watch::channel(Err(format!("Redis server {address} is not connected yet")));
        let connection = Mutex::default();
        let node = Arc::new(Self { address, client, connection, standing });
        tokio::spawn(probe(Arc::downgrade(&node)));
        node
    }

    /// What messages call the server: `host:port`.
    pub(crate) fn name(&self) -> &str {
        self.address.name()
    }

    /// Whether the server answered when it was asked last, or what is wrong with it.
    pub(crate) fn standing(&self) -> watch::Receiver<Result<(), String>> {
        self.standing.subscribe()
    }

    /// Executes one command, which must not block.
    pub(crate) async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisFailure> {
        let (number, mut connection) = self.shared_connection().await?;
        let answer = command.query_async(&mut connection).await;
        self.conclude(number, answer).await
    }

    /// Executes a script, and has the server learn it first where it does not know it.
    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, RedisFailure> {
        let (number, mut connection) = self.shared_connection().await?;
        let answer = script.invoke_async(&mut connection).await;
        self.conclude(number, answer).await
    }

    /// Which connection requests go over, made where there is none.
    pub(crate) async fn connected(&self) -> Result<u64, RedisFailure> {
        self.shared_connection().await.map(|(number, _)| number)
    }

    /// Executes a script over this connection, not over one that was made since.
    pub(crate) async fn script_on<T: FromRedisValue>(
        &self,
        connection: u64,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, RedisFailure> {
        let (number, mut shared) = self.shared_connection().await?;
        if number != connection {
            let reason = "it was connected to anew, and not looked at since";
            return Err(RedisFailure::unreachable(self.name(), reason));
        }
        let answer = script.invoke_async(&mut shared).await;
        self.conclude(number, answer).await
    }

    /// A connection of one's own that listens to a channel.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<PubSub, RedisFailure> {
        let subscribing = async {
            let mut connection = self.client.get_async_pubsub().await?;
            connection.subscribe(channel).await?;
            Ok(connection)
        };
        match tokio::time::timeout(CONNECT_LIMIT, subscribing).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => {
                let error: redis::RedisError = error;
                Err(RedisFailure::unreachable(self.name(), &one_line(&error)))
            }
            Err(_) => Err(RedisFailure::unreachable(self.name(), "it does not answer")),
        }
    }

    async fn shared_connection(&self) -> Result<(u64, MultiplexedConnection), RedisFailure> {
        // Whoever comes while a connection is being made waits for that one, for a bounded time.
        let mut connection = self.connection.lock().await;
        if let Some(current) = &connection.current {
            return Ok((connection.number, current.clone()));
        }
        if let Some((at, reason)) = &connection.failed
            && at.elapsed() < CONNECT_PAUSE
        {
            return Err(RedisFailure::unreachable(self.name(), reason));
        }
        match self.open().await {
            Ok(opened) => {
                connection.number += 1;
                connection.current = Some(opened.clone());
                Ok((connection.number, opened))
            }
            Err(reason) => {
                let failure = RedisFailure::unreachable(self.name(), &reason);
                connection.failed = Some((Instant::now(), reason));
                Err(failure)
            }
        }
    }

    async fn open(&self) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_LIMIT))
            .set_response_timeout(Some(RESPONSE_LIMIT))
            .set_pipeline_buffer_size(PIPELINE);
        let opening = self.client.get_multiplexed_async_connection_with_config(&config);
        match tokio::time::timeout(CONNECT_LIMIT, opening).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(one_line(&error)),
            Err(_) => Err("it does not answer".to_owned()),
        }
    }

    async fn conclude<T>(&self, number: u64, answer: RedisResult<T>) -> Result<T, RedisFailure> {
        let error = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if !leaves_connection_usable(&error) {
            let mut connection = self.connection.lock().await;
            if connection.number == number {
                connection.current = None;
            }
        }
        Err(RedisFailure::after_sending(self.name(), &error))
    }
}

/// Asks the server every now and then whether it is there, for as long as anybody needs it.
async fn probe(node: Weak<RedisNode>) {
    let ping = redis::cmd("PING");
    // Nothing is said about a server that is there from the start.
    let mut was_up = true;
    loop {
        let Some(node) = node.upgrade() else { return };
        let standing = node.run::<()>(&ping).await.map_err(|failure| failure.to_string());
        match &standing {
            Ok(()) if !was_up => tracing::info!("Redis server {} is back", node.name()),
            Err(problem) if was_up => tracing::warn!("{problem}"),
            _ => {}
        }
        was_up = standing.is_ok();
        node.standing.send_if_modified(|now| {
            let changed = *now != standing;
            *now = standing;
            changed
        });
        drop(node);
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests;
