//! The queue from outside.

mod bench;
mod cluster;
mod decode;
mod model;
mod replicated;
mod scenarios;
