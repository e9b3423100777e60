//! The queue on Redis Streams, over several Redis servers that know nothing of one another.
//!
//! # Where messages are
//!
//! A topic's *home* is the first server of its preference list on the ring. While the home cannot
//! be reached, publishes go to a *hand-off* on the next server of the list that can, consumers
//! receive from there, and a *drain* brings home what is left once the home is back. All state is in
//! Redis: any number of dss nodes may work on the same servers at the same time, and each
//! transition is one script, atomic on its server, with that server's clock.
//!
//! ```text
//!   publish ──► home n0 is up:   dss:C:queue:{orders}:s         ◄── receive, ack, …
//!          └──► home n0 is down: dss:C:queue:{orders}@n0:s on n1 ◄── receive, ack, …
//!                                      │ take → adopt → finish, once n0 is up
//!                                      └──────────────► dss:C:queue:{orders}:s on n0
//! ```
//!
//! Messages lie in real streams: the one of topic `orders` in cluster `C` has the key
//! `dss:C:queue:{orders}:s` (see `XINFO STREAM`), a hand-off's `dss:C:queue:{orders}@<home>:s` with
//! eight hexadecimal digits for the home. Groups are not Redis's own: their acknowledgements are
//! not fenced, redelivery needs scans, and what is trimmed stays pending. They are the cursor and
//! the exceptions of `dss_queue`, whose semantics these are, in the keys beside the stream; what is
//! due is in sorted sets by its time.
//!
//! # Copies
//!
//! With two copies, the default where there are three servers or more, a publish is answered once a
//! second server has what was published: the first other one of the preference list that can be
//! reached keeps a *shadow* of the place. It serves nobody. What it keeps of the home of `orders` is
//! below `dss:C:queue:{orders}~<server>~<mark>`, of a hand-off below `…{orders}@<home>~…`.
//!
//! ```text
//!   publish ──► n0  {orders}                              the place: ids are given here
//!          └──► n1  {orders}~n0~3-…                       its shadow, then the answer
//!   every 500 ms: account of n0 ──► remember at n1        trims it; what groups have done
//!   n0 comes back without its data, and gets the mark 4-…:
//!                recall at n1 ──► revive at n0 ──► renew at n1, under {orders}~n0~4-…
//! ```
//!
//! A shadow's messages are in a hash with an index by id, since copies come in any order, which a
//! stream refuses. It has the messages that are not older than the oldest of its place, and of others at most
//! as many as the place has and a thousand. It remembers what each group has done: its cursor, and up
//! to a thousand exceptions to it. One that is new, after its server lost its disk or another one
//! helped out for it, is given all that its place has. With the place it goes: when a hand-off is
//! drained, when a topic is deleted. All nodes have to say the same of copies: with one copy, nobody
//! looks after shadows that are there, and what they keep comes back once there are two again.
//!
//! A server that comes back empty, or with an older state than others know of, is given another mark
//! at once, so that nobody takes it for what it was; it is restored before it is used, by whichever
//! nodes find it so, in batches that may be repeated. Meanwhile publishes go another way. Where a
//! server that may keep something of it cannot be reached, that is waited for ten seconds; then the
//! server is used without, the loss named in the log, and what that one keeps comes back late, once
//! it is there. A server that nobody remembers waits as long for everybody to say so.
//!
//! # What is promised
//!
//! - What was acknowledged to a producer is as durable as the server that took it: with
//!   `appendfsync always` it survives whatever its disk survives; with `everysec` a power failure
//!   takes up to two seconds of it along. While its server is down, a message waits.
//! - With two copies it survives the loss of that disk, or of the other one: the next disk may be
//!   lost once the shadows are whole again, for which all servers have to be there. A publish that no
//!   second server took has an unknown outcome: the message is there, and has one copy. While a
//!   hand-off is brought home, its messages are on two servers as well.
//! - Restored messages have their ids, dedupe ids are known, and no id is given again. Delivered
//!   again is what was acknowledged later than its shadow remembers, half a second as a rule, and
//!   of groups with more than a thousand exceptions what is in the stream. Attempts begin anew and
//!   receipts from before are stale. Messages of which two servers kept shadows come in the order of
//!   their ids, late ones after what came meanwhile. Not copied are dead letters, what was redriven,
//!   and the fencing tokens that were seen.
//! - What was acknowledged by a consumer does not come back. An acknowledgement that its server
//!   cannot record is refused, and its message delivered again.
//! - A drain loses nothing and duplicates nothing: each step is repeated until the next one has
//!   happened, the home takes each batch once, and leases, attempts and acknowledgements move along
//!   with a message. A receipt is good for the message wherever it is by then.
//! - A message that was published twice with the same dedupe id, the second time at a hand-off
//!   since the first one's outcome was unknown, becomes one when it is brought home.
//! - Order by key holds on each server by itself, not from a home's backlog to a hand-off.
//! - A server that comes back empty, or with an older state, is noticed and named in the log. With
//!   one copy, what it lost is lost.
//!
//! Redis must not evict: `maxmemory-policy noeviction`, its default. While a home is down its own
//! backlog waits for it, and what can only be decided there (settings, dead letters, counters,
//! acknowledgements of what it gave out) is refused. A topic can be deleted while all servers are
//! there: what another one kept would come back with it.

mod answer;
mod broker;
mod census;
mod copies;
mod drain;
mod keep;
mod lines;
mod place;
mod receive;
mod recover;
mod restore;
mod scripts;
mod settings;
mod settle;
mod shared;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;

use tokio::task::AbortHandle;

use self::shared::Shared;
use super::{RedisNodes, key_prefix};

#[cfg(test)]
pub(crate) use self::census::Loss;
pub(crate) use self::copies::Copies;

/// A [`dss_queue::Broker`] on Redis Streams. Dropping it ends its tasks; what is kept stays.
pub(crate) struct RedisBroker {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

impl RedisBroker {
    /// Serves the queue of a cluster from these servers, inside a tokio runtime. Every node of the
    /// cluster names the same servers, and as many copies.
    ///
    /// # Panics
    ///
    /// Where two of the servers have names of the same 32-bit FNV-1a hash: ids tell them by it.
    pub(crate) fn start(cluster: &str, servers: RedisNodes, copies: Copies) -> Self {
        let keys = format!("{}queue", key_prefix(cluster));
        let shared = Arc::new(Shared::new(keys, servers, copies));
        let tasks = watch::start(&shared);
        Self { shared, tasks }
    }

    /// What servers were found to have lost since this process started, oldest first.
    #[cfg(test)]
    pub(crate) fn losses(&self) -> Vec<(String, Loss)> {
        self.shared.census.losses()
    }
}

impl Drop for RedisBroker {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
