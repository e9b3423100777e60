//! The dss cluster server: locks, queues and a coherent cache, served over HTTP.
//!
//! # Layout
//!
//! - `cli`, `config`: what the process is asked to run.
//! - `local`: three nodes in this process, with `demo`: to be stopped and cut off on purpose;
//!   `node`: one node, its parts wired together.
//! - `app`, `ready`: what handlers see of a running node.
//! - `tls`: what connections are encrypted with; `certs`: the command that makes certificates.
//! - `peer`: how nodes talk to each other; `forward`: clients' requests between nodes;
//!   `withdrawals`: what clients that have gone asked for.
//! - `cache_group`: the Raft group behind the cache; `placement`: where its keys live.
//! - `control_group`: the Raft group of what operators decide; `members`: who belongs to the cluster;
//!   `auth`: who may call; `origin`: from where; `audit`: what they did.
//! - `redis`: the servers of queues and main memory, where those are not embedded.
//! - `http`: everything that clients see; `dashboard`: the page that is among it;
//!   `descriptors`: how many clients there can be.
//! - `client`: the side of programs that are clients, among them:
//! - `load`: clients that keep a cluster busy, and what they measure;
//! - `lock`: a command that runs under a lock; `status`: the cluster in the terminal; `token`:
//!   who may call; `audit_command`: whether what they did is still as it was written down.
//!
//! - `backup`: what a cluster has replicated, in a file; `private_file`: files for their owner alone;
//!   `hex`: hashes and keys as text.

mod app;
mod audit;
mod audit_command;
mod auth;
mod backup;
mod cache_group;
mod certs;
mod cli;
mod client;
mod config;
mod control_group;
mod demo;
mod descriptors;
mod forward;
mod hex;
mod http;
mod life;
mod load;
mod local;
mod lock;
mod members;
mod node;
mod origin;
#[cfg(test)]
mod packaging;
mod peer;
mod placement;
mod private_file;
mod ready;
mod redis;
mod signals;
mod status;
mod tls;
mod token;
mod withdrawals;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, ConfigCommand, NodeArgs, Stop, StorageArgs};
use crate::config::{ClusterConfig, ConfigError, Setting};
use crate::node::{BoundNode, StartError};
use crate::signals::StopSignals;

/// Exit status of a usage or configuration error.
const USAGE: u8 = 2;
/// How long blocking work may hold up the end of the process.
const RUNTIME_LIMIT: Duration = Duration::from_secs(1);

/// Why the process ends without having served.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Load(#[from] load::Error),
    #[error(transparent)]
    Lock(#[from] lock::Error),
    #[error(transparent)]
    Status(#[from] status::Error),
    #[error(transparent)]
    Token(#[from] token::Error),
    #[error(transparent)]
    Backup(#[from] backup::Error),
    #[error(transparent)]
    Audit(#[from] audit_command::Error),
    #[error(transparent)]
    Certs(#[from] certs::Error),
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
}

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Stop::Show(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(Stop::Refuse(line)) => {
            eprintln!("{line}");
            return ExitCode::from(USAGE);
        }
    };
    log_to_standard_error(&cli);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = worker_threads(&cli) {
        runtime.worker_threads(threads);
    }
    let runtime =
        runtime.enable_all().build().expect("the operating system lets a process have threads");
    let result = runtime.block_on(run(cli));
    runtime.shutdown_timeout(RUNTIME_LIMIT);
    match result {
        Ok(status) => status,
        Err(failure) => {
            eprintln!("error: {}", one_line(&failure));
            match failure {
                Failure::Load(_)
                | Failure::Status(_)
                | Failure::Token(_)
                | Failure::Audit(_)
                | Failure::Backup(_) => ExitCode::FAILURE,
                Failure::Lock(error) => ExitCode::from(error.status()),
                _ => ExitCode::from(USAGE),
            }
        }
    }
}

/// How many threads work for a node: half as many as there are processors, where the environment
/// does not say it the way that tokio reads it. What a node does is a chain of short tasks that
/// wake each other. With as many threads as processors, each waking wakes a thread that finds
/// nothing to do; and the log, the network and whatever else runs on the machine need some, too.
fn worker_threads(cli: &Cli) -> Option<usize> {
    let is_node = matches!(cli.command, Some(Command::Node(_)));
    if !is_node || std::env::var_os("TOKIO_WORKER_THREADS").is_some() {
        return None;
    }
    let processors = std::thread::available_parallelism().ok()?;
    Some(processors.get().div_ceil(2))
}

/// Standard output is for what was asked for; `DSS_LOG` says how much is told beside it.
fn log_to_standard_error(cli: &Cli) {
    let default = match cli.command {
        Some(Command::Node(_) | Command::Load(_)) => "info",
        None
        | Some(
            Command::Audit(_)
            | Command::Certs(_)
            | Command::Config(_)
            | Command::Lock(_)
            | Command::Token(_)
            | Command::Backup(_)
            | Command::Restore(_)
            | Command::Status(_)
            | Command::Health(_),
        ) => "warn",
    };
    let filter = EnvFilter::try_from_env("DSS_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        None => {
            let mut config = configured(ClusterConfig::local_from(cli.port), cli.storage)?;
            if cli.secure {
                config = certs::secure(config).map_err(certs::Error::from)?;
            }
            let descriptors = descriptors::for_clients() / config.nodes().len();
            let config = config.with_connections_up_to(descriptors);
            let stop = StopSignals::listen().map_err(Failure::Signals)?;
            local::run(config, cli.demo, stop).await?;
        }
        Some(Command::Node(arguments)) => run_node(arguments).await?,
        Some(Command::Config(ConfigCommand::Check(arguments))) => {
            let config = configured(ClusterConfig::read(&arguments.config)?, arguments.storage)?;
            if let Some(id) = &arguments.id {
                // What a node would refuse to start with is said here too.
                tls::Tls::load(&config, config.require_node(id)?).map_err(StartError::from)?;
            }
            print!("{config}");
        }
        Some(Command::Certs(options)) => certs::run(&options)?,
        Some(Command::Load(options)) => load::run(options).await?,
        Some(Command::Lock(options)) => {
            let stop = StopSignals::listen().map_err(Failure::Signals)?;
            return Ok(ExitCode::from(lock::run(options, stop).await?));
        }
        Some(Command::Audit(command)) => audit_command::run(command).await?,
        Some(Command::Backup(options)) => backup::backup(options).await?,
        Some(Command::Restore(arguments)) => {
            let NodeArgs { config: file, id, storage } = arguments.node;
            let config = configured(ClusterConfig::read(&file)?, storage)?;
            let node = config.require_node(&id)?;
            backup::restore(&arguments.from, &config, node).await?;
        }
        Some(Command::Token(command)) => token::run(command).await?,
        Some(Command::Health(options)) => status::health(options).await?,
        Some(Command::Status(options)) => return Ok(status::run(options).await?),
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration with what the environment and the command line say instead.
fn configured(config: ClusterConfig, said: StorageArgs) -> Result<ClusterConfig, ConfigError> {
    config
        .with_settings(Setting::of_environment(|name| std::env::var_os(name))?)?
        .with_settings(said.settings)?
        .with_storage(said.data_dir, said.redis)
}

/// One node, in the foreground.
async fn run_node(arguments: NodeArgs) -> Result<(), Failure> {
    let NodeArgs { config: file, id, storage } = arguments;
    let config = configured(ClusterConfig::read(&file)?, storage)?;
    let node = config.require_node(&id)?.clone();
    let config = Arc::new(config.with_connections_up_to(descriptors::for_clients()));
    let mut stop = StopSignals::listen().map_err(Failure::Signals)?;
    let running = BoundNode::bind(&config, &node).await?.start().await?;
    tracing::info!(node = %node.name, client = %node.client, peer = %node.peer, "started");
    if !config.redis().is_empty() {
        tracing::info!(servers = config.redis_names(), "queues and values are kept on Redis");
    }
    let is_removed = tokio::select! {
        () = async {
            running.ready().await;
            tracing::info!(node = %node.name, "ready");
            std::future::pending::<()>().await;
        } => false,
        () = running.removed() => true,
        () = stop.next() => false,
    };
    signals::exit_at_the_next(stop);
    if is_removed {
        running.leave().await;
        return Ok(());
    }
    tracing::info!(node = %node.name, "stopping");
    running.shutdown().await;
    Ok(())
}

/// An error and its causes, on one line.
fn one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line.replace('\n', " ")
}
