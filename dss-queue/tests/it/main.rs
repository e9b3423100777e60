//! The queue from outside.

mod bench;
mod cluster;
mod decode;
mod limits;
mod model;
mod replicated;
mod scenarios;
