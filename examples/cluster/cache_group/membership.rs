//! A member's side of the view: it joins, keeps its lease, leaves, and comes back where it was
//! removed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dss_mesi::{
    CacheNode, Incarnation, LeaseConfig, LeaseHolder, Member, NodeId, Timestamp, View, ViewCommand,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::CacheGroup;
use super::clock::Clock;
use super::current::CurrentCache;
use super::leases::Leases;
use super::machine::{CacheCommand, CacheReply};
use super::request::{Answer, Request};
use crate::life;

/// The pause before a leader that could not be asked is looked for again.
const PAUSE: Duration = Duration::from_millis(20);
/// How many renewals may be unanswered at a time.
const RENEWALS_MAX: usize = 4;
/// How many views are taken from the queue at once.
const VIEWS_BATCH: usize = 1024;
/// How long a cache whose life is over may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// This node's standing in the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Its current life.
    pub(crate) member: Member,
    /// Until when its lease runs, if it ever had one.
    pub(crate) until: Option<Instant>,
}

/// How lives of this node begin.
pub(crate) struct Lives {
    /// Where the number of the last one is kept.
    pub(crate) folder: PathBuf,
    /// Starts the cache of one.
    pub(crate) start: Box<dyn Fn(Member) -> CacheNode + Send + Sync>,
}

/// This node's membership in the view.
pub(crate) struct Membership {
    keeper: Arc<Keeper>,
    standing: watch::Receiver<Standing>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

struct Keeper {
    group: CacheGroup,
    leases: Arc<Leases>,
    config: LeaseConfig,
    clock: Clock,
    lives: Lives,
    caches: Arc<CurrentCache>,
    view: watch::Receiver<View>,
    standing: watch::Sender<Standing>,
}

impl Membership {
    /// Joins the view as `member`, whose cache is the current one, and stays in it. Views and
    /// leases are handed to the current cache as they come.
    pub(crate) fn start(
        group: CacheGroup,
        leases: Arc<Leases>,
        config: LeaseConfig,
        member: Member,
        lives: Lives,
        caches: Arc<CurrentCache>,
        view: watch::Receiver<View>,
    ) -> Self {
        let (sender, standing) = watch::channel(Standing { member, until: None });
        let clock = Clock::start();
        let keeper = Keeper { group, leases, config, clock, lives, caches, view, standing: sender };
        let (keeper, stopping) = (Arc::new(keeper), CancellationToken::new());
        let tasks = TaskTracker::new();
        let (keeping, stopped) = (keeper.clone(), stopping.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = keeping.keep() => {}
                () = stopped.cancelled() => {}
            }
        });
        Self { keeper, standing, stopping, tasks }
    }

    /// How this node stands in the view.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Writes back what the cache holds, and takes this node out of the view, so that nobody has
    /// to wait for its lease to run out.
    pub(crate) async fn leave(&self) {
        self.keeper.caches.get().shutdown().await;
        // No lease is asked for after the cache has stopped acting.
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // A new life that was being begun meanwhile does not act either.
        self.keeper.caches.get().shutdown().await;
        let member = self.keeper.standing.borrow().member;
        let command = CacheCommand::View(ViewCommand::Leave { member });
        if self.keeper.group.propose(&command).await.is_err() {
            tracing::warn!("the view still contains this node: nobody could be told");
        }
    }
}

/// Makes the views that come into force known: to the cache that is current then, and to `latest`.
pub(crate) async fn follow_views(
    mut views: mpsc::UnboundedReceiver<View>,
    caches: Arc<CurrentCache>,
    latest: watch::Sender<View>,
) {
    let mut arrived = Vec::new();
    while views.recv_many(&mut arrived, VIEWS_BATCH).await > 0 {
        // After a start the log tells all views that ever were, at once: only the last is news.
        if let Some(View { epoch, members }) = arrived.last() {
            tracing::info!(%epoch, members = members.len(), "a new view of the cache");
        }
        for view in arrived.drain(..) {
            // In this order: a cache that becomes current meanwhile takes the latest by itself.
            latest.send_replace(view.clone());
            caches.get().set_view(view);
        }
    }
}

impl Keeper {
    /// Lives one life after the other.
    async fn keep(&self) {
        loop {
            let Standing { member, .. } = *self.standing.borrow();
            self.live(member).await;
            tracing::warn!("this node was removed from the cache's view and comes back empty");
            let (former, until) = (self.caches.get(), self.standing.borrow().until);
            // What clients ask from here on waits for the new life to be in the view.
            self.begin_life(member).await;
            if tokio::time::timeout(STOP_LIMIT, former.shutdown()).await.is_err() {
                tracing::warn!("the former cache still has something to write back");
            }
            // Whoever removed it knew that its lease was over. So does this node before it joins.
            if let Some(until) = until {
                tokio::time::sleep_until(until).await;
            }
        }
    }

    /// The newest life of this node that the table remembers. The folder may not know of it: it
    /// was lost, or is an old copy.
    async fn newest_life(&self, node: NodeId) -> u64 {
        let newest = self.group.read(move |machine| machine.table().newest(node));
        let newest = tokio::time::timeout(STOP_LIMIT, newest).await;
        // Without an answer it is found out when the life that is begun then may not join.
        newest.ok().and_then(Result::ok).flatten().map_or(0, Incarnation::get)
    }

    /// Begins the life after that of `former`, which has ended.
    async fn begin_life(&self, former: Member) {
        let newest = self.newest_life(former.node).await;
        loop {
            let folder = self.lives.folder.clone();
            let life = tokio::task::spawn_blocking(move || life::begin(&folder, newest)).await;
            match life.expect("beginning a life does not panic, and is not cancelled") {
                Ok(life) => {
                    let member = Member { incarnation: Incarnation::new(life), ..former };
                    let cache = (self.lives.start)(member);
                    self.caches.replace(cache.clone());
                    cache.set_view(self.view.borrow().clone());
                    self.standing.send_replace(Standing { member, until: None });
                    return;
                }
                Err(error) => tracing::error!("no new life can be begun: {error}"),
            }
            tokio::time::sleep(STOP_LIMIT).await;
        }
    }

    /// Joins as `member` and renews its lease until that life is over.
    async fn live(&self, member: Member) {
        if !self.join(member).await {
            return;
        }
        let cache = self.caches.get();
        let mut holder = LeaseHolder::new(self.config, self.clock.now());
        let mut leadership = self.group.group().leadership();
        let mut renewals = JoinSet::new();
        while let Some(next) = holder.poll_timeout() {
            tokio::select! {
                Some(Ok((sent, answer))) = renewals.join_next() => match answer {
                    Some(Answer::Lease(lease)) => {
                        let until = holder.handle_granted(sent, lease);
                        self.act_until(member, &cache, until);
                    }
                    Some(Answer::LifeIsOver) => holder.surrender(),
                    _ => {
                        tokio::time::sleep(PAUSE).await;
                        holder.handle_leader_changed(self.clock.now());
                    }
                },
                () = tokio::time::sleep_until(self.clock.instant(next)) => {
                    let now = self.clock.now();
                    holder.handle_sent(now);
                    if renewals.len() < RENEWALS_MAX {
                        let (group, leases) = (self.group.clone(), self.leases.clone());
                        let limit = self.config.lease();
                        renewals.spawn(async move {
                            (now, renew(&group, &leases, member, limit).await)
                        });
                    }
                }
                Ok(()) = leadership.changed() => {
                    // The former leader may be silent rather than gone: nobody waits for it.
                    renewals = JoinSet::new();
                    holder.handle_leader_changed(self.clock.now());
                }
            }
        }
    }

    /// Whether the view contains `member` after it has asked to join: not where that life is over.
    async fn join(&self, member: Member) -> bool {
        let command = CacheCommand::View(ViewCommand::Join { member });
        loop {
            match self.group.propose(&command).await {
                Ok(CacheReply::View(view)) => return view.contains(member),
                Ok(_) => tracing::error!("the leader of the cache is of another version"),
                Err(error) => tracing::warn!("cannot join the cache's view yet: {error}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn act_until(&self, member: Member, cache: &CacheNode, until: Option<Timestamp>) {
        if let Some(until) = until.map(|until| self.clock.instant(until)) {
            cache.set_lease(until);
            self.standing.send_replace(Standing { member, until: Some(until) });
        }
    }
}

/// Asks the leader for a longer lease; nothing where it cannot be asked, or does not answer before
/// the lease would be over.
async fn renew(
    group: &CacheGroup,
    leases: &Leases,
    member: Member,
    limit: Duration,
) -> Option<Answer> {
    let leader = group.leader()?;
    if leader == group.me() {
        Some(leases.renew_here(member).await)
    } else {
        let request = Request::Renew(member);
        tokio::time::timeout(limit, group.ask(leader, &request)).await.ok().flatten()
    }
}
