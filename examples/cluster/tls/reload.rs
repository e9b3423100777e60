//! A node's folder, looked at again and again: certificates are replaced while the node runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::TlsError;
use super::credentials::{self, Credentials};
use super::files::Files;
use crate::config::NodeConfig;

/// How often the folder is looked at. What is found twice is used, so that files that are replaced
/// one after the other are not taken for a pair that does not match.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long before a certificate ends its node begins to say so.
const ENDING: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often it says so.
const REMIND_EVERY: Duration = Duration::from_secs(24 * 3600);

/// The folder of one node.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
    node: String,
    /// Whether clients have to show certificates.
    asks_clients: bool,
    /// Where clients reach the node, if it can be said.
    host: Option<String>,
}

/// What came of looking into the folder: what differs when the content does, or what is wrong.
type Seen = Result<u64, TlsError>;

impl Folder {
    pub(super) fn new(path: PathBuf, node: &NodeConfig, asks_clients: bool) -> Self {
        let host = node.client.named_host().map(str::to_owned);
        Self { path, node: node.name.clone(), asks_clients, host }
    }

    fn read(&self) -> Result<Files, TlsError> {
        Files::read(&self.path, self.asks_clients)
    }

    /// What is in the folder now, and from now on.
    ///
    /// # Errors
    ///
    /// Where it cannot be used now.
    pub(super) fn keep_current(self) -> Result<watch::Receiver<Arc<Credentials>>, TlsError> {
        let (seen, credentials) = self.load()?;
        let (sender, receiver) = watch::channel(Arc::new(credentials));
        tokio::spawn(self.watch(sender, seen));
        Ok(receiver)
    }

    fn load(&self) -> Result<(u64, Credentials), TlsError> {
        let files = self.read()?;
        let fingerprint = files.fingerprint;
        let stranger = self.host.as_ref().and_then(|host| {
            let path = credentials::lacks_host(&files, host)?.to_owned();
            Some((path, host))
        });
        let credentials = Credentials::new(files, &self.node, UnixTime::now())?;
        if let Some((path, host)) = stranger {
            tracing::warn!("{}: is not a certificate for {host}", path.display());
        }
        Ok((fingerprint, credentials))
    }

    /// Looks until nobody uses what is found.
    async fn watch(self, sender: watch::Sender<Arc<Credentials>>, seen: u64) {
        let (mut used, mut last): (Seen, Seen) = (Ok(seen), Ok(seen));
        let (mut reminder, mut said) = (Instant::now(), None);
        loop {
            if Instant::now() >= reminder {
                reminder = Instant::now() + REMIND_EVERY;
                self.clone().blocking(Self::remind).await;
            }
            tokio::select! {
                () = sender.closed() => return,
                () = sleep(LOOK_EVERY) => {}
            }
            let now = self.clone().blocking(|folder| Ok(folder.read()?.fingerprint));
            let now: Seen = now.await;
            if now == used {
                said = None;
            }
            if now == used || now != last {
                last = now;
                continue;
            }
            // What cannot be used today may be valid tomorrow: it is tried again and again, and
            // spoken of once.
            match self.clone().blocking(|folder| folder.load()).await {
                Ok((loaded, credentials)) => {
                    (used, last) = (Ok(loaded), Ok(loaded));
                    (reminder, said) = (Instant::now(), None);
                    tracing::info!(node = %self.node, "new certificates are in use");
                    sender.send_replace(Arc::new(credentials));
                }
                Err(error) if said.as_ref() != Some(&error) => {
                    let node = &self.node;
                    tracing::warn!(%node, "the former certificates stay in use: {error}");
                    said = Some(error);
                }
                Err(_) => {}
            }
        }
    }

    /// Says which certificate ends soon.
    fn remind(self) {
        let Ok(files) = self.read() else { return };
        if let Some(path) = credentials::ending_within(&files, ENDING) {
            tracing::warn!("{}: ends within 30 days", path.display());
        }
    }

    async fn blocking<R: Send + 'static>(self, work: fn(Self) -> R) -> R {
        tokio::task::spawn_blocking(move || work(self))
            .await
            .expect("reading files does not panic, and is not cancelled")
    }
}
