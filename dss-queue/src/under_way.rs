//! What must come to its end once it has begun.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// A future that goes on in a task of its own where it is dropped in the middle; its result is
/// dropped there then. One that was never begun is not begun.
///
/// For brokers: whoever asks for messages may go away while they are being leased. Somebody has to
/// hear which ones, and to [hand them back](crate::Broker::hand_back).
pub struct UnderWay<T: Send + 'static> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    has_begun: bool,
    runtime: Handle,
}

impl<T: Send + 'static> UnderWay<T> {
    /// Nothing is done before it is awaited; `runtime` is where it goes on.
    pub fn new(runtime: Handle, future: impl Future<Output = T> + Send + 'static) -> Self {
        Self { future: Some(Box::pin(future)), has_begun: false, runtime }
    }
}

impl<T: Send + 'static> Future for UnderWay<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.has_begun = true;
        let future = self.future.as_mut().expect("nobody awaits what has ended");
        let result = future.as_mut().poll(context);
        if result.is_ready() {
            self.future = None;
        }
        result
    }
}

impl<T: Send + 'static> Drop for UnderWay<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take().filter(|_| self.has_begun) {
            self.runtime.spawn(async move { drop(future.await) });
        }
    }
}

impl<T: Send + 'static> fmt::Debug for UnderWay<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("UnderWay")
            .field("has_begun", &self.has_begun)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Waker;

    use tokio::sync::{Notify, oneshot};

    use super::*;

    /// Something that ends when `go` says so, and whether its result was dropped.
    fn something(go: &Arc<Notify>) -> (UnderWay<oneshot::Sender<()>>, oneshot::Receiver<()>) {
        let (result, dropped) = oneshot::channel();
        let go = Arc::clone(go);
        let future = async move {
            go.notified().await;
            result
        };
        (UnderWay::new(Handle::current(), future), dropped)
    }

    #[tokio::test]
    async fn what_is_dropped_in_the_middle_comes_to_its_end() {
        let go = Arc::new(Notify::new());
        let (under_way, mut dropped) = something(&go);
        {
            let mut under_way = pin!(under_way);
            let mut context = Context::from_waker(Waker::noop());
            assert!(under_way.as_mut().poll(&mut context).is_pending());
        }
        tokio::task::yield_now().await;
        assert_eq!(dropped.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        go.notify_one();
        assert!(dropped.await.is_err(), "it ended, and nobody took the result");

        go.notify_one();
        let (under_way, mut dropped) = something(&go);
        let result = under_way.await;
        assert_eq!(dropped.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop(result);
    }

    #[tokio::test]
    async fn what_was_never_begun_is_not() {
        let go = Arc::new(Notify::new());
        go.notify_one();
        let (under_way, dropped) = something(&go);
        drop(under_way);
        assert!(dropped.await.is_err());
        go.notified().await;
    }
}
