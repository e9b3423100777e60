//! The routes as clients see them.

mod audit;
mod auth;
mod bad_input;
mod client;
mod cluster;
mod document;
mod events;
mod forwarding;
mod limits;
mod locks;
mod messages;
mod on_redis;
mod operations;
mod queues;
mod values;
