//! Three nodes in one process.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::ClusterConfig;
use crate::demo::{Action, Demo, Standing};
use crate::node::{BoundNode, RunningNode, StartError};
use crate::signals::StopSignals;
use crate::tls::CLIENTS_TRUST;

/// After this long without being ready, something is wrong enough to say so.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Runs every node of `config` in this process until it is asked to stop; with `is_demo`, for
/// people to play with.
pub(crate) async fn run(
    config: ClusterConfig,
    is_demo: bool,
    mut stop: StopSignals,
) -> Result<(), StartError> {
    let config = Arc::new(config);
    let (demo, orders) = match is_demo {
        true => {
            let names = config.nodes().iter().map(|node| node.name.clone());
            let (demo, orders) = Demo::new(names);
            (Some(demo), Some(orders))
        }
        false => (None, None),
    };
    let mut nodes = Nodes { running: start(&config, &demo).await?, config, demo };
    let ready = async {
        for node in &nodes.running {
            node.ready().await;
        }
    };
    let is_ready = tokio::select! {
        ready = tokio::time::timeout(READY_LIMIT, ready) => ready.is_ok(),
        () = stop.next() => {
            crate::signals::exit_at_the_next(stop);
            shutdown(nodes.running).await;
            return Ok(());
        }
    };
    if is_ready {
        println!("{}", banner(&nodes.config));
    } else {
        for node in &nodes.running {
            if let Err(problem) = node.app().ready.check() {
                tracing::error!(node = %node.app().name, "not ready: {problem}");
            }
        }
    }
    nodes.obey_until(orders, stop.next()).await;
    crate::signals::exit_at_the_next(stop);
    shutdown(nodes.running).await;
    Ok(())
}

/// The nodes of this process.
struct Nodes {
    config: Arc<ClusterConfig>,
    running: Vec<RunningNode>,
    demo: Option<Demo>,
}

impl Nodes {
    /// Does with nodes what clients order, if they may, and lets those go that are removed, until
    /// `end`.
    async fn obey_until(
        &mut self,
        mut orders: Option<mpsc::Receiver<(String, Action)>>,
        end: impl Future<Output = ()>,
    ) {
        let mut end = pin!(end);
        loop {
            let ordered = async {
                match &mut orders {
                    Some(orders) => orders.recv().await,
                    None => std::future::pending().await,
                }
            };
            let (node, action) = tokio::select! {
                Some(order) = ordered => order,
                place = removed(&self.running) => {
                    let node = self.running.swap_remove(place);
                    if let Some(demo) = &self.demo {
                        demo.note(&node.app().name, Standing::Stopped);
                    }
                    // It takes its time, in which there may be something else to do.
                    tokio::spawn(node.leave());
                    continue;
                }
                () = &mut end => return,
            };
            tracing::info!(%node, ?action, "as a client orders");
            let Some(demo) = self.demo.clone() else { continue };
            if let Err(error) = self.obey(&demo, &node, action).await {
                tracing::error!(%node, "cannot be started: {error}");
                demo.note(&node, Standing::Stopped);
            }
        }
    }

    /// Does this with a node; what makes no sense now does nothing.
    async fn obey(&mut self, demo: &Demo, node: &str, action: Action) -> Result<(), StartError> {
        let place = self.running.iter().position(|running| running.app().name == node);
        match (action, place) {
            (Action::Stop, Some(place)) => {
                demo.note(node, Standing::Stopping);
                let stopped = self.running.swap_remove(place);
                stopped.app().peers.isolate(false);
                stopped.shutdown().await;
                demo.note(node, Standing::Stopped);
            }
            (Action::Start, None) => {
                let Some(configured) = self.config.node(node) else { return Ok(()) };
                demo.note(node, Standing::Starting);
                let bound = BoundNode::bind(&self.config, configured).await?;
                let started = bound.with_demo(Some(demo.clone())).start().await?;
                self.running.push(started);
                demo.note(node, Standing::Running);
            }
            (Action::Isolate, Some(place)) => {
                self.running[place].app().peers.isolate(true);
                demo.note(node, Standing::Isolated);
            }
            (Action::Heal, Some(place)) => {
                self.running[place].app().peers.isolate(false);
                demo.note(node, Standing::Running);
            }
            (Action::Start, Some(_)) | (_, None) => {}
        }
        Ok(())
    }
}

/// The place of a node that is to leave the cluster, once there is one.
async fn removed(nodes: &[RunningNode]) -> usize {
    let removed = nodes.iter().map(|node| Box::pin(node.removed()));
    if nodes.is_empty() {
        return std::future::pending().await;
    }
    futures_util::future::select_all(removed).await.1
}

/// Takes the ports of all nodes before the data folder of any is touched, then starts them.
async fn start(
    config: &Arc<ClusterConfig>,
    demo: &Option<Demo>,
) -> Result<Vec<RunningNode>, StartError> {
    let mut bound = Vec::new();
    for node in config.nodes() {
        bound.push(BoundNode::bind(config, node).await?.with_demo(demo.clone()));
    }
    let mut running = Vec::new();
    for node in bound {
        match node.start().await {
            Ok(node) => running.push(node),
            Err(error) => {
                shutdown(running).await;
                return Err(error);
            }
        }
    }
    Ok(running)
}

/// All nodes stop serving while all still vote, then one after the other goes: so each has others
/// to hand over to, as far as there are any.
pub(crate) async fn shutdown(mut nodes: Vec<RunningNode>) {
    futures_util::future::join_all(nodes.iter_mut().map(RunningNode::stop_serving)).await;
    for node in nodes {
        node.stop().await;
    }
}

/// What a newcomer sees: the addresses, and what to try.
fn banner(config: &ClusterConfig) -> String {
    let mut lines = vec![format!(
        "{} nodes serve, with their data in {}:",
        config.nodes().len(),
        config.data_dir().display()
    )];
    if !config.redis().is_empty() {
        lines[0] = format!(
            "{} nodes serve, with queues and values on Redis at {}, and the rest of their data in {}:",
            config.nodes().len(),
            config.redis_names(),
            config.data_dir().display()
        );
    }
    let (scheme, curl) = (config.scheme(), curl(config));
    lines.extend(
        config.nodes().iter().map(|node| format!("  {}  {scheme}://{}", node.name, node.client)),
    );
    let url = |index: usize| {
        let nodes = config.nodes();
        format!("{scheme}://{}/v1", nodes[index % nodes.len()].client)
    };
    let (first, second, third) = (url(0), url(1), url(2));
    let json = "-H 'content-type: application/json' -d";
    lines.push(format!(
        "
Take a lock through the first node:
  {curl} -X POST {first}/locks/orders/acquire {json} '{{\"session\":\"me\"}}'
Publish a message through the second and receive it through the third:
  {curl} -X POST {second}/queues/jobs/messages {json} '{{\"messages\":[{{\"payload\":\"hello\"}}]}}'
  {curl} -X POST {third}/queues/jobs/groups/workers/receive {json} '{{\"consumer\":\"me\"}}'
Put a value into the cache through the first and get it through the third:
  {curl} -X PUT {first}/cache/greeting --data-binary 'hello'
  {curl} {third}/cache/greeting

Watch all of it in a browser:
  {}://{}/

Ctrl-C stops them.",
        config.scheme(),
        config.nodes()[0].client
    ));
    lines.join("\n")
}

/// How to call `curl`.
fn curl(config: &ClusterConfig) -> String {
    match config.tls_folder() {
        Some(folder) => format!("curl --cacert {}", folder.join(CLIENTS_TRUST).display()),
        None => "curl".to_owned(),
    }
}
