//! What `/metrics` tells of the parts of a node that count for themselves.

use std::time::Duration;

use dss_queue::{GroupInfo, QueueMachine, UnixMillis};
use dss_raft::{Metrics, RoleKind, Status};
use jiff::Timestamp;

use crate::app::App;
use crate::audit::AuditLog;
use crate::http::metrics::{Exposition, Kind};

/// Writes what the Raft groups, the cache and the peers of `app` have to tell.
pub(crate) fn write(app: &App, exposition: &mut Exposition) {
    let node: &[_] = &[("node", app.name.as_str()), ("version", env!("CARGO_PKG_VERSION"))];
    exposition.family("dss_node_info", Kind::Gauge, "Which node this is.").sample(node, 1);
    let ready = u8::from(app.ready.check().is_ok());
    exposition.family("dss_ready", Kind::Gauge, "Whether the node can serve.").sample(&[], ready);
    write_raft(&groups(app), exposition);
    write_raft_counters(app, exposition);
    let help = "How long the log took to make writes of all groups durable, fsync included.";
    let mut family = exposition.family("dss_raft_persist_seconds", Kind::Histogram, help);
    app.log_writes.write(&mut family, &[]);
    write_cache(app, exposition);
    if let Some(log) = &app.audit {
        write_audit(log, exposition);
    }
    let mut family =
        exposition.family("dss_peer_up", Kind::Gauge, "Whether this node is connected to a peer.");
    for peer in app.members.nodes().iter().filter(|peer| peer.id != app.id) {
        family.sample(&[("peer", &peer.name)], u8::from(app.peers.is_up(peer.id)));
    }
    let help = "Connections of whoever has not proved to be another node, or not in time.";
    exposition
        .family("dss_peer_refused_total", Kind::Counter, help)
        .sample(&[], app.peers.refused());
}

/// How the audit log is doing.
fn write_audit(log: &AuditLog, exposition: &mut Exposition) {
    let help = "The number of the last audit entry that is durable.";
    exposition.family("dss_audit_entries", Kind::Gauge, help).sample(&[], log.sequence());
    let help = "Whether the audit log can be written: where not, changes are refused.";
    let writable = u8::from(log.is_writable());
    exposition.family("dss_audit_writable", Kind::Gauge, help).sample(&[], writable);
    let help = "Audit entries that were lost since there was no room for them.";
    exposition.family("dss_audit_lost_total", Kind::Counter, help).sample(&[], log.lost());
}

/// What the shards hold that this node leads: sums over all topics and groups, of which there may
/// be any number.
pub(crate) async fn write_queues(app: &App, exposition: &mut Exposition) {
    let mut led = Vec::new();
    for (number, group) in app.queue_groups.iter().enumerate() {
        if group.status().role != RoleKind::Leader {
            continue;
        }
        // A group that has stopped has nothing to tell.
        if let Ok(shard) = group.read_local(Shard::of).await {
            led.push((format!("shard-{number}"), shard));
        }
    }
    let help = "Messages of the shards that this node leads, by what their groups did with them.";
    let mut family = exposition.family("dss_queue_messages", Kind::Gauge, help);
    for (name, Shard { messages, .. }) in &led {
        for (state, messages) in [
            ("ready", messages.ready),
            ("in_flight", messages.in_flight),
            ("delayed", messages.delayed),
            ("dead", messages.dead),
        ] {
            family.sample(&[("shard", name), ("state", state)], messages);
        }
    }
    let help = "How long the oldest message has been waiting for its group to acknowledge it.";
    let mut family = exposition.family("dss_queue_oldest_seconds", Kind::Gauge, help);
    for (name, shard) in &led {
        family.sample(&[("shard", name)], shard.oldest_age().as_secs_f64());
    }
}

/// What a shard holds.
#[derive(Default)]
struct Shard {
    messages: GroupInfo,
    /// When the oldest message was produced that a group has not acknowledged.
    oldest: Option<UnixMillis>,
}

impl Shard {
    fn of(machine: &QueueMachine) -> Self {
        let queue = machine.queue();
        let mut shard = Self::default();
        for topic in queue.topics() {
            for (group, info) in queue.topic(topic).into_iter().flat_map(|topic| topic.groups) {
                shard.messages.ready += info.ready;
                shard.messages.in_flight += info.in_flight;
                shard.messages.delayed += info.delayed;
                shard.messages.dead += info.dead;
                let oldest = queue.peek(topic, Some(&group), None, 1);
                let oldest =
                    oldest.and_then(|page| page.messages.first().map(|one| one.produced_at));
                shard.oldest = [shard.oldest, oldest].into_iter().flatten().min();
            }
        }
        shard
    }

    /// By this machine's clock, which also says when messages are produced.
    fn oldest_age(&self) -> Duration {
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        self.oldest.map_or(Duration::ZERO, |oldest| UnixMillis::new(now).since(oldest))
    }
}

fn write_raft_counters(app: &App, exposition: &mut Exposition) {
    let shards = app.queue_groups.iter().enumerate();
    let groups: Vec<_> = [
        ("locks".to_owned(), app.lock_group.metrics()),
        ("cache".to_owned(), app.cache_group.metrics()),
        ("control".to_owned(), app.control.group().metrics()),
    ]
    .into_iter()
    .chain(shards.map(|(number, group)| (format!("shard-{number}"), group.metrics())))
    .collect();
    type Figure = fn(&Metrics) -> u64;
    let figures: [(&str, &str, Figure); 8] = [
        ("dss_raft_proposals_total", "Proposals taken in.", |metrics| metrics.proposals),
        ("dss_raft_proposals_refused_total", "Proposals refused.", |metrics| {
            metrics.proposals_refused
        }),
        ("dss_raft_reads_total", "Linearizable reads taken in.", |metrics| metrics.reads),
        ("dss_raft_writes_total", "Writes that the log was asked for.", |metrics| metrics.writes),
        ("dss_raft_entries_written_total", "Entries in those writes.", |metrics| {
            metrics.entries_written
        }),
        ("dss_raft_entries_applied_total", "Entries applied.", |metrics| metrics.entries_applied),
        ("dss_raft_snapshots_taken_total", "Snapshots stored.", |metrics| metrics.snapshots_taken),
        ("dss_raft_snapshots_failed_total", "Snapshots that could not be taken.", |metrics| {
            metrics.snapshots_failed
        }),
    ];
    for (name, help, figure) in figures {
        let mut family = exposition.family(name, Kind::Counter, help);
        for (group, metrics) in &groups {
            family.sample(&[("group", group)], figure(metrics));
        }
    }
}

/// Every Raft group of the node with what it is called.
fn groups(app: &App) -> Vec<(String, Status)> {
    let shards = app.queue_groups.iter().enumerate();
    [
        ("locks".to_owned(), app.lock_group.status()),
        ("cache".to_owned(), app.cache_group.status()),
        ("control".to_owned(), app.control.group().status()),
    ]
    .into_iter()
    .chain(shards.map(|(number, group)| (format!("shard-{number}"), group.status())))
    .collect()
}

fn write_raft(groups: &[(String, Status)], exposition: &mut Exposition) {
    let roles = [
        ("leader", RoleKind::Leader),
        ("follower", RoleKind::Follower),
        ("pre_candidate", RoleKind::PreCandidate),
        ("candidate", RoleKind::Candidate),
        ("learner", RoleKind::Learner),
    ];
    let help = "1 for the role that the node has in a group, 0 for the others.";
    let mut family = exposition.family("dss_raft_role", Kind::Gauge, help);
    for (group, status) in groups {
        for (name, role) in roles {
            family.sample(&[("group", group), ("role", name)], u8::from(status.role == role));
        }
    }
    type Figure = fn(&Status) -> u64;
    let figures: [(&str, &str, Figure); 5] = [
        ("dss_raft_term", "The term that the node is in.", |status| status.term.get()),
        ("dss_raft_has_leader", "Whether the node knows a leader.", |status| {
            u64::from(status.leader.is_some())
        }),
        ("dss_raft_commit_index", "The last entry known to be committed.", |status| {
            status.commit_index.get()
        }),
        ("dss_raft_applied_index", "The last entry applied.", |status| status.applied_index.get()),
        ("dss_raft_last_index", "The last entry of the log.", |status| status.last_index.get()),
    ];
    for (name, help, figure) in figures {
        let mut family = exposition.family(name, Kind::Gauge, help);
        for (group, status) in groups {
            family.sample(&[("group", group)], figure(status));
        }
    }
}

fn write_cache(app: &App, exposition: &mut Exposition) {
    let cache = app.cache().statistics();
    for (name, help, value) in [
        ("dss_cache_hits_total", "Reads that found the line here.", cache.hits),
        ("dss_cache_misses_total", "Reads that did not.", cache.misses),
        ("dss_cache_changes_total", "Writes and removals that changed a value.", cache.writes),
        ("dss_cache_evictions_total", "Lines dropped to make room.", cache.evictions),
        ("dss_cache_write_backs_total", "Written lines given up and stored.", cache.write_backs),
        ("dss_cache_recalls_total", "Lines given up because the home asked.", cache.recalls),
        ("dss_cache_lost_total", "Written lines lost before they were stored.", cache.lost),
        ("dss_cache_grants_total", "Lines granted by this node as their home.", cache.grants),
        (
            "dss_cache_memory_failures_total",
            "Calls of main memory that failed.",
            cache.memory_failures,
        ),
    ] {
        exposition.family(name, Kind::Counter, help).sample(&[], value);
    }
    let mut family =
        exposition.family("dss_cache_lines", Kind::Gauge, "Lines held, by their state.");
    for (state, lines) in [("M", cache.modified), ("E", cache.exclusive), ("S", cache.shared)] {
        family.sample(&[("state", state)], lines);
    }
    for (name, help, value) in [
        ("dss_cache_bytes", "Bytes of the keys and values of lines held.", cache.bytes),
        ("dss_cache_writing_back", "Lines that wait to be stored.", cache.writing_back),
        ("dss_cache_directory_lines", "Lines that this node's home tracks.", cache.directory),
    ] {
        exposition.family(name, Kind::Gauge, help).sample(&[], value);
    }
}
