//! The routes as clients see them, of a node that is a cluster by itself.

mod app;
mod bad_input;
mod document;
mod node;
