//! Which node a request is for.

use std::fmt;
use std::sync::Arc;

use dss_queue::{Broker, TopicName};
use dss_raft::{Leadership, NodeId};
use percent_encoding::percent_decode_str;
use tokio::sync::watch;

use crate::app::App;

/// Which node is asked first, as far as it is known. It is the one that is likely to answer; any
/// other would only say which one that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// The one that the client talks to.
    Here,
    /// The one that leads the locks.
    LeaderOfLocks,
    /// The one that serves the topic of the path.
    ServerOfTopic,
}

/// What this node knows of who leads what.
#[derive(Clone)]
pub(crate) struct Guide {
    locks: watch::Receiver<Leadership>,
    queues: Arc<dyn Broker>,
}

impl Guide {
    /// What the node of `app` knows.
    pub(crate) fn of(app: &App) -> Self {
        Self { locks: app.lock_group.leadership(), queues: Arc::clone(&app.queues) }
    }

    /// The node to ask first for this path; nothing where any will do.
    pub(crate) fn to(&self, first: First, path: &str) -> Option<NodeId> {
        match first {
            First::Here => None,
            First::LeaderOfLocks => self.locks.borrow().leader,
            First::ServerOfTopic => self.queues.served_by(&topic_of(path)?),
        }
    }
}

impl fmt::Debug for Guide {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Guide").finish_non_exhaustive()
    }
}

/// The topic of `/v1/queues/{topic}` and of what lies below it, where it has a name that a topic
/// can have.
fn topic_of(path: &str) -> Option<TopicName> {
    let name = path.strip_prefix("/v1/queues/")?.split('/').next()?;
    TopicName::new(percent_decode_str(name).decode_utf8().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_topic() {
        let topic = |path| topic_of(path).map(|topic| topic.as_str().to_owned());
        assert_eq!(topic("/v1/queues/jobs").as_deref(), Some("jobs"));
        assert_eq!(topic("/v1/queues/a%2Fb%20c/groups/g/ack").as_deref(), Some("a/b c"));
        for path in ["/v1/queues", "/v1/queues/", "/v1/queues/%FF/messages", "/v1/locks/jobs"] {
            assert_eq!(topic(path), None, "{path}");
        }
    }
}
