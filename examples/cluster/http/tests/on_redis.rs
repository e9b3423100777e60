//! The server without its cache: it asks a Redis for each value. That is what the cache is measured
//! against.

use std::sync::Arc;

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;

use super::super::extract::{Name, Named, Raw};
use super::super::{Code, Http, Problem, table};
use crate::app::App;

/// The key of a value.
struct Key(String);

impl Named for Key {
    fn named(name: String) -> Result<Self, String> {
        Ok(Self(name))
    }
}

impl Http {
    /// The HTTP side of `app` as it is, but for the values: they are in this Redis, and nowhere
    /// else.
    pub(crate) fn on_redis(app: App, redis: &MultiplexedConnection) -> Self {
        let mut routes = table();
        for route in routes.iter_mut().filter(|route| route.path == "/v1/cache/{key}") {
            let redis = redis.clone();
            if route.method == Method::GET {
                route.handler = on(MethodFilter::GET, |key| get(redis, key));
            } else if route.method == Method::PUT {
                route.handler = on(MethodFilter::PUT, |key, value| put(redis, key, value));
            }
        }
        let peers = Arc::new(app.peers.clone());
        Self::with_routes(app, peers, routes)
    }
}

async fn get(
    mut redis: MultiplexedConnection,
    Name(Key(key)): Name<Key>,
) -> Result<Response, Problem> {
    let value: Option<Vec<u8>> = redis.get(key).await.map_err(|error| failed(&error))?;
    let value = value.ok_or_else(|| Problem::new(Code::NotFound, "there is no value"))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], value).into_response())
}

async fn put(
    mut redis: MultiplexedConnection,
    Name(Key(key)): Name<Key>,
    Raw(value): Raw,
) -> Result<StatusCode, Problem> {
    redis.set::<_, _, ()>(key, &value[..]).await.map_err(|error| failed(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

fn failed(error: &redis::RedisError) -> Problem {
    Problem::new(Code::OutcomeUnknown, error.to_string())
}
