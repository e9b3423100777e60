//! Operations that read, work something out, and write.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::drive::Inner;
use super::node::CacheNode;
use crate::cache::{Condition, Read};
use crate::error::CacheError;
use crate::version::Version;

/// Why a value could not be [loaded](CacheNode::get_or_load).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LoadError<E> {
    /// The cache could not be asked, or could not take the value.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The loader failed.
    #[error("the loader failed")]
    Loader(#[source] E),
}

/// Who is loading what, on this node.
#[derive(Debug, Default)]
pub(super) struct Flights {
    flights: Mutex<BTreeMap<Bytes, Arc<tokio::sync::Mutex<()>>>>,
}

impl Flights {
    fn flight(&self, key: &Bytes) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(flights.entry(key.clone()).or_default())
    }

    /// Forgets the flight, if nobody else is on it.
    fn land(&self, key: &Bytes) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.get(key).is_some_and(|flight| Arc::strong_count(flight) == 1) {
            flights.remove(key);
        }
    }
}

/// Forgets a flight, however the future that is on it ends.
struct Landing<'a> {
    inner: &'a Inner,
    key: &'a Bytes,
    flight: Option<Arc<tokio::sync::Mutex<()>>>,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.flight = None;
        self.inner.flights.land(self.key);
    }
}

/// A line that may be held, until this is dropped.
struct Holding<'a> {
    inner: &'a Arc<Inner>,
    key: &'a Bytes,
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        let place = self.inner.place_of(self.key);
        self.inner.drive(place, |part, now| part.cache.let_go(now, self.key));
    }
}

impl CacheNode {
    /// Reads `key` or, where there is no value, loads and writes one.
    ///
    /// Of all who ask at the same time, on this node and all others, one runs its loader, and the
    /// others wait for what comes of it: the node that loads holds the line meanwhile. That ends
    /// after half the operation time-out; a loader that takes longer may run on several nodes, and
    /// all return the value that was written first.
    ///
    /// # Errors
    ///
    /// [`LoadError::Loader`] where this caller's loader failed: then nothing is written, and the
    /// next one's runs. [`LoadError::Cache`] as with [`get`](CacheNode::get) and
    /// [`put`](CacheNode::put).
    pub async fn get_or_load<F, L, E>(&self, key: Bytes, load: F) -> Result<Read, LoadError<E>>
    where
        F: FnOnce() -> L,
        L: Future<Output = Result<Bytes, E>>,
    {
        if let Some(Some(read)) = self.get_cached(&key) {
            return Ok(read);
        }
        let flight = self.inner.flights.flight(&key);
        let landing = Landing { inner: &self.inner, key: &key, flight: Some(flight) };
        let _turn = match landing.flight.as_ref() {
            Some(flight) => Some(Arc::clone(flight).lock_owned().await),
            None => None,
        };
        if let Some(read) = self.get(key.clone()).await? {
            return Ok(read);
        }
        let until = self.inner.now() + self.inner.operation_timeout / 2;
        let holding = Holding { inner: &self.inner, key: &key };
        if let Some(read) = self.own_and_hold(key.clone(), until).await? {
            return Ok(read);
        }
        let value = load().await.map_err(LoadError::Loader)?;
        let written = self.put(key.clone(), value, Condition::Absent).await;
        drop(holding);
        match written {
            Ok(_) | Err(CacheError::VersionMismatch { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // Removed in no time at all: as if this caller had never loaded it.
        self.get(key.clone()).await?.ok_or(LoadError::Cache(CacheError::Unavailable))
    }

    /// Replaces the value of `key` by what `change` makes of it, as one step: nobody writes in
    /// between. `None` stands for no value, before and after. The version that is there then.
    ///
    /// The line is taken for writing first; on a line that this node owns no message is needed.
    /// `change` runs without any lock, and again where somebody else was faster: it should do
    /// nothing but compute.
    ///
    /// # Errors
    ///
    /// As [`put`](CacheNode::put), but for [`CacheError::VersionMismatch`]; and
    /// [`CacheError::Unavailable`] once the operation time-out is over and others were faster
    /// every time.
    pub async fn update(
        &self,
        key: Bytes,
        mut change: impl FnMut(Option<&Bytes>) -> Option<Bytes>,
    ) -> Result<Option<Version>, CacheError> {
        let deadline = tokio::time::Instant::now() + self.inner.operation_timeout;
        while tokio::time::Instant::now() < deadline {
            let before = self.own(key.clone()).await?;
            let value = change(before.as_ref().map(|read| &read.value));
            let condition = match &before {
                Some(read) => Condition::Matches(read.version),
                None => Condition::Absent,
            };
            let written = match (value, &before) {
                (Some(value), _) => self.put(key.clone(), value, condition).await.map(Some),
                (None, None) => return Ok(None),
                (None, Some(_)) => self.remove(key.clone(), condition).await.map(|_| None),
            };
            match written {
                Err(CacheError::VersionMismatch { .. }) => {}
                other => return other,
            }
        }
        Err(CacheError::Unavailable)
    }
}
