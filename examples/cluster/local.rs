//! Three nodes in one process.

use std::sync::Arc;
use std::time::Duration;

use crate::config::ClusterConfig;
use crate::node::{BoundNode, RunningNode, StartError};
use crate::signals::StopSignals;
use crate::tls::CLIENTS_TRUST;

/// After this long without being ready, something is wrong enough to say so.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Runs every node of `config` in this process until it is asked to stop.
pub(crate) async fn run(config: ClusterConfig, mut stop: StopSignals) -> Result<(), StartError> {
    let config = Arc::new(config);
    let nodes = start(&config).await?;
    let ready = async {
        for node in &nodes {
            node.ready().await;
        }
    };
    tokio::select! {
        ready = tokio::time::timeout(READY_LIMIT, ready) => match ready {
            Ok(()) => {
                println!("{}", banner(&config));
                stop.next().await;
            }
            Err(_) => {
                for node in &nodes {
                    if let Err(problem) = node.app().ready.check() {
                        tracing::error!(node = %node.app().name, "not ready: {problem}");
                    }
                }
                stop.next().await;
            }
        },
        () = stop.next() => {}
    }
    crate::signals::exit_at_the_next(stop);
    shutdown(nodes).await;
    Ok(())
}

/// Takes the ports of all nodes before the data folder of any is touched, then starts them.
async fn start(config: &Arc<ClusterConfig>) -> Result<Vec<RunningNode>, StartError> {
    let mut bound = Vec::new();
    for node in config.nodes() {
        bound.push(BoundNode::bind(config, node).await?);
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

Ctrl-C stops them."
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
