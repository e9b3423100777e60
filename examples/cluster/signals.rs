//! What the operating system asks of the process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Requests to stop: SIGTERM and Ctrl-C.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From here on such a request no longer kills the process at once.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next request.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Whoever asks again does not want to wait: from here on the next request ends the process.
pub(crate) fn exit_at_the_next(mut stop: StopSignals) {
    /// What a shell reports for a process that Ctrl-C ended.
    const INTERRUPTED: i32 = 130;
    tokio::spawn(async move {
        stop.next().await;
        std::process::exit(INTERRUPTED);
    });
}
