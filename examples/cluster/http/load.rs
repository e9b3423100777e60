//! How much is under way, and when that is enough.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places that requests take, of which there are only so many.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    requests: Arc<Semaphore>,
    waits: Arc<Semaphore>,
}

/// The place of one request, free again when it is dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "it is held, not read")]
pub(crate) struct Place(OwnedSemaphorePermit);

impl Load {
    /// Places for `requests` that are worked on, and for `waits` more that wait.
    pub(crate) fn new(requests: usize, waits: usize) -> Self {
        let places = |places: usize| Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self { requests: places(requests), waits: places(waits) }
    }

    /// A place for a request that is to be worked on, where there is one.
    pub(crate) fn enter(&self) -> Option<Place> {
        Arc::clone(&self.requests).try_acquire_owned().ok().map(Place)
    }

    /// A place for a request that may wait for a lock or a message.
    pub(crate) fn wait(&self) -> Option<Place> {
        Arc::clone(&self.waits).try_acquire_owned().ok().map(Place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_request_has_ended() {
        let load = Load::new(1, 1);
        let place = load.enter().expect("one is free");
        assert!(load.enter().is_none());
        let _wait = load.wait().expect("who waits takes another one's place");
        assert!(load.wait().is_none());
        drop(place);
        assert!(load.enter().is_some());
    }
}
