//! The queue from outside.

mod bench;
mod decode;
mod model;
mod scenarios;
