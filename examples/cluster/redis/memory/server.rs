//! One Redis server as a part of main memory.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use dss_mesi::{Epoch, StoreOutcome, Stored};
use redis::{Script, ScriptInvocation};

use super::claim::{Claimant, Registry};
use super::record::{decode, decode_epoch, decode_version, encode_epoch};
use super::script::{FENCE, LOAD, STORE};
use crate::redis::{RedisFailure, RedisNode};

/// How often the server is looked at while nobody uses it, and claimed again where that failed.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A server cannot be used.
#[derive(Debug, Clone)]
pub(super) enum Unusable {
    /// It does not answer, or not as it should.
    Failed(RedisFailure),
    /// It answers, and is not what it must be, for a reason that is one line.
    Wrong(String),
}

impl Unusable {
    pub(super) fn new(server: &str, problem: &str) -> Self {
        Self::Wrong(format!("Redis server {server} cannot be used: {problem}"))
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(formatter),
            Self::Wrong(problem) => formatter.write_str(problem),
        }
    }
}

impl From<RedisFailure> for Unusable {
    fn from(failure: RedisFailure) -> Self {
        Self::Failed(failure)
    }
}

/// How many writes a server has acknowledged, in the era in which it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Position {
    era: u64,
    writes: u64,
}

/// A server, and what this node knows about what it must hold.
pub(super) struct MemoryServer {
    node: Arc<RedisNode>,
    /// The key that holds what is known about the server.
    memory: String,
    servers: Vec<String>,
    registry: Arc<dyn Registry>,
    /// The owner's name, from the moment at which the cluster is known to own the server.
    owner: OnceLock<String>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The newest state of the server that any answer came from.
    position: Position,
    /// The epoch to which this node has wanted the fence raised.
    fence: Epoch,
    /// Why it could not be used when it was tried last.
    problem: Option<String>,
    was_usable: bool,
}

/// What a script answers: how it ended, the era and the writes, and what belongs to the ending.
type Answer = (String, u64, u64, Option<Vec<u8>>);

impl MemoryServer {
    /// Begins to claim and then to look after the server, inside a tokio runtime.
    pub(super) fn start(
        node: Arc<RedisNode>,
        prefix: &str,
        servers: Vec<String>,
        registry: Arc<dyn Registry>,
    ) -> Arc<Self> {
        let problem = format!("Redis server {} was not looked at yet", node.name());
        let seen = Seen { problem: Some(problem), ..Seen::default() };
        let (memory, owner) = (format!("{prefix}memory"), OnceLock::new());
        let seen = Mutex::new(seen);
        let server = Arc::new(Self { node, memory, servers, registry, owner, seen });
        tokio::spawn(look_after(Arc::downgrade(&server)));
        server
    }

    pub(super) fn name(&self) -> &str {
        self.node.name()
    }

    /// Why the server could not be used when it was tried last.
    pub(super) fn problem(&self) -> Option<String> {
        self.seen().problem.clone()
    }

    /// Why the server could not be used since the start.
    pub(super) fn never_usable(&self) -> Option<String> {
        let seen = self.seen();
        if seen.was_usable { None } else { seen.problem.clone() }
    }

    /// What is said where it takes too long.
    pub(super) fn silent(&self) -> Unusable {
        Unusable::new(self.name(), "it does not answer in time")
    }

    pub(super) async fn load(&self, key: &[u8]) -> Result<Option<Stored>, Unusable> {
        let mut load = self.begin(&LOAD)?;
        load.key(key);
        match self.perform(&load).await? {
            ("loaded", None) => Ok(None),
            ("loaded", Some(record)) => decode(record).map(Some).ok_or_else(|| self.damaged()),
            _ => Err(self.damaged()),
        }
    }

    pub(super) async fn store(
        &self,
        writer: Epoch,
        key: &[u8],
        record: &[u8],
    ) -> Result<StoreOutcome, Unusable> {
        let mut store = self.begin(&STORE)?;
        store.key(key).arg(encode_epoch(writer)).arg(record);
        let outcome = match self.perform(&store).await? {
            ("stored", None) => Some(StoreOutcome::Stored),
            ("stale", Some(version)) => {
                decode_version(&version).map(|newest| StoreOutcome::Stale { newest })
            }
            ("fenced", Some(fence)) => {
                decode_epoch(&fence).map(|fence| StoreOutcome::Fenced { fence })
            }
            _ => None,
        };
        outcome.ok_or_else(|| self.damaged())
    }

    /// Raises the fence, here at once and there at the latest when the server is used; returns
    /// where it stands.
    pub(super) async fn fence(&self, epoch: Epoch) -> Result<Epoch, Unusable> {
        {
            let mut seen = self.seen();
            seen.fence = seen.fence.max(epoch);
        }
        let standing = self.node.standing().borrow().clone();
        standing.map_err(Unusable::Wrong)?;
        match self.perform(&self.begin(&FENCE)?).await? {
            ("fence", Some(fence)) => decode_epoch(&fence).ok_or_else(|| self.damaged()),
            _ => Err(self.damaged()),
        }
    }

    /// An operation on this server, with the arguments that each begins with.
    fn begin<'a>(&self, script: &'a Script) -> Result<ScriptInvocation<'a>, Unusable> {
        let seen = self.seen();
        let Some(owner) = self.owner.get() else {
            return Err(Unusable::Wrong(seen.problem.clone().unwrap_or_default()));
        };
        let Position { era, writes } = seen.position;
        let mut begun = script.prepare_invoke();
        begun.key(&self.memory).arg(owner).arg(era).arg(writes).arg(encode_epoch(seen.fence));
        Ok(begun)
    }

    async fn perform(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<(&'static str, Option<Vec<u8>>), Unusable> {
        let (ending, era, writes, rest): Answer = self.node.script(script).await?;
        let position = Position { era, writes };
        let ending = match ending.as_str() {
            "owner" => return Err(self.lost(rest.as_deref())),
            "older" => return Err(self.lost(self.owner.get().map(String::as_bytes))),
            "loaded" => "loaded",
            "stored" => "stored",
            "stale" => "stale",
            "fenced" => "fenced",
            "fence" => "fence",
            _ => return Err(self.damaged()),
        };
        let mut seen = self.seen();
        seen.position = seen.position.max(position);
        Ok((ending, rest))
    }

    /// The server does not hold what it must, but what belongs to `found`.
    fn lost(&self, found: Option<&[u8]>) -> Unusable {
        let owner = self.owner.get().map_or("", String::as_str);
        let what = match found {
            None => "it came back without its data",
            Some(found) if found == owner.as_bytes() => {
                "it came back with older data than it had acknowledged"
            }
            Some(_) => {
                return Unusable::new(
                    self.name(),
                    "another cluster of this name has taken it over: give one of them another name",
                );
            }
        };
        let (name, memory, era) = (self.name(), &self.memory, self.seen().position.era + 1);
        Unusable::new(
            name,
            &format!(
                "{what}. Values of the cache are missing: stop it and give it its data back, or, \
                 to go on without them: redis-cli -u redis://{name} HSET {memory} owner {owner} \
                 era {era} servers {}",
                self.servers.join(",")
            ),
        )
    }

    fn damaged(&self) -> Unusable {
        let problem = format!("what it holds for {} was not written by dss", self.memory);
        Unusable::new(self.name(), &problem)
    }

    /// Claims the server where that is not done yet, and looks whether it holds what it must.
    async fn check(&self) {
        let result = async {
            if self.owner.get().is_none() {
                let Self { node, memory, servers, registry, .. } = self;
                let registry = &**registry;
                let owner = Claimant { node, memory, servers, registry }.claim().await?;
                // Nobody else sets it.
                let _ = self.owner.set(owner);
            }
            self.perform(&self.begin(&FENCE)?).await.map(drop)
        };
        let unusable = result.await.err();
        let problem = unusable.as_ref().map(Unusable::to_string);
        let mut seen = self.seen();
        // Whoever looks after the connection tells of a server that does not answer.
        if let Some(Unusable::Wrong(problem)) = &unusable
            && seen.problem.as_ref() != Some(problem)
        {
            tracing::error!("{problem}");
        }
        if problem.is_none() && seen.problem.is_some() {
            let Position { era, writes } = seen.position;
            tracing::info!(
                era,
                writes,
                "the cache's memory on Redis server {} serves",
                self.name()
            );
        }
        seen.was_usable |= problem.is_none();
        seen.problem = problem;
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // No change to it can be left half done.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the server now and then, for as long as anybody uses it.
async fn look_after(server: Weak<MemoryServer>) {
    loop {
        let Some(server) = server.upgrade() else { return };
        server.check().await;
        drop(server);
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}
