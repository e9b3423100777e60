//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::config::Setting;
use crate::{audit_command, certs, load, lock, status, token};

/// Locks, queues and a coherent cache, served over HTTP by a cluster of nodes.
///
/// Without a command: three nodes in this process, clients at 127.0.0.1:8001 to :8003.
#[derive(Debug, Parser)]
#[command(name = "cluster", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Encrypt everything, with certificates made for it.
    #[arg(long)]
    pub(crate) secure: bool,
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    /// Let the dashboard stop, isolate and heal nodes, to see what the others do.
    #[arg(long)]
    pub(crate) demo: bool,
    /// Where the first node serves clients; the others are at the next ports, and the ports at which
    /// nodes talk to each other lie 1000 above.
    #[arg(long, value_name = "PORT", default_value_t = 8001, value_parser = clap::value_parser!(u16).range(1..=64_000))]
    pub(crate) port: u16,
}

/// What to run instead of three nodes in one process.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs one node of the cluster that a file describes, in the foreground.
    Node(NodeArgs),
    /// Looks at the cluster's file and what is said beside it.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Makes the certificates of a cluster, or new ones in place of those that end.
    Certs(certs::Options),
    /// Keeps a cluster busy and measures throughput and latency.
    Load(load::Options),
    /// Runs a command while it holds a lock, and kills it when the lock is lost.
    Lock(lock::Options),
    /// Looks at an audit log.
    #[command(subcommand)]
    Audit(audit_command::Command),
    /// Makes, shows and revokes the tokens of clients.
    #[command(subcommand)]
    Token(token::Command),
    /// Shows the nodes of a cluster and who leads.
    Status(status::Options),
    /// Asks a node whether it serves, for health checks: exit status 0 if so, else 1.
    Health(status::HealthOptions),
}

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Checks it, and shows what a node would run with: the file, over it the environment
    /// (`DSS_LIMITS_IDLE_MS` for `idle_ms` in `[limits]`), over that the command line.
    Check(CheckArgs),
}

/// The options of `config check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The cluster's file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// A node that it must have.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
}

/// The options of `node`.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The cluster's file, the same on every node.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Which of the file's nodes this is.
    #[arg(long, value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
}

/// Where a node keeps its data, and what is said in place of the file.
#[derive(Debug, Args)]
pub(crate) struct StorageArgs {
    /// The folder in which each node keeps its own.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Keep queues and the cache's main memory in these Redis servers.
    #[arg(long, value_name = "URL[,URL…]", value_delimiter = ',')]
    pub(crate) redis: Option<Vec<String>>,
    /// A setting of the file, such as `limits.idle_ms=30000` or `auth.enabled=true`.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) settings: Vec<Setting>,
}

/// What the command line asked for, where it is not to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Help or version: this text, on standard output.
    Show(String),
    /// A usage error: this line, on standard error.
    Refuse(String),
}

/// Understands the arguments, the first of which is the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Stop> {
    Cli::try_parse_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Show(error.to_string()),
        _ => Stop::Refuse(first_paragraph(&error.to_string())),
    })
}

/// clap explains itself on several lines; its first paragraph is what is wrong.
fn first_paragraph(text: &str) -> String {
    let lines: Vec<&str> =
        text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    format!("{} (see --help)", lines.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Cli, Stop> {
        parse(std::iter::once("cluster").chain(words.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn nothing_means_three_nodes_with_optional_storage() {
        let cli = parse_words("").unwrap();
        assert!(cli.command.is_none() && cli.storage.data_dir.is_none());

        let cli = parse_words("--data-dir d --redis redis://a,redis://b").unwrap();
        assert_eq!(cli.storage.data_dir, Some(PathBuf::from("d")));
        assert_eq!(cli.storage.redis.unwrap(), ["redis://a", "redis://b"]);
        assert!(!cli.demo && parse_words("--demo").unwrap().demo);
    }

    #[test]
    fn node_takes_its_file_its_id_and_its_storage() {
        let cli = parse_words("node --config c.toml --id n2 --data-dir d").unwrap();
        let Some(Command::Node(node)) = cli.command else { panic!("not a node: {cli:?}") };
        assert_eq!((node.config, node.id.as_str()), (PathBuf::from("c.toml"), "n2"));
        assert_eq!(node.storage.data_dir, Some(PathBuf::from("d")));
    }

    #[test]
    fn load_takes_targets_a_workload_and_how_much_of_it() {
        let line =
            "load --target http://a:1,http://b:2 --workload lock --clients 3 --seconds 4 --json";
        let Some(Command::Load(load)) = parse_words(line).unwrap().command else {
            panic!("not a load");
        };
        assert_eq!((load.targets.len(), load.workload), (2, load::Workload::Lock));
        assert_eq!((load.clients, load.seconds, load.json), (3, 4, true));
    }

    #[test]
    fn lock_takes_a_name_and_a_command_with_options_of_its_own() {
        let line = "lock --shared --wait-ms 50 nightly -- backup --all -- x";
        let Some(Command::Lock(lock)) = parse_words(line).unwrap().command else {
            panic!("not a lock");
        };
        assert_eq!((lock.name.as_str(), lock.shared, lock.wait_ms), ("nightly", true, Some(50)));
        assert_eq!(lock.command, ["backup", "--all", "--", "x"]);
    }

    #[test]
    fn a_usage_error_is_one_line_that_names_the_option() {
        for (words, named) in [
            ("--frobnicate", "--frobnicate"),
            ("node --id n1", "--config"),
            ("node --config", "--config"),
            ("dance", "dance"),
            ("load --workload lock", "--target"),
            ("load --target a:1 --workload lock", "a:1"),
            ("load --target http://a:1 --workload chess", "chess"),
            ("load --target http://a:1 --workload lock --clients 0", "0"),
            ("--data-dir d node --config c --id n1", "--data-dir"),
            ("node --config c --id n1 --demo", "--demo"),
            ("lock", "NAME"),
            ("certs --node n1=a", "--out"),
            ("certs --out d", "--node"),
            ("certs --out d --client", "--client"),
            ("status --cacert nowhere.pem", "nowhere.pem"),
            ("--secure node --config c --id n1", "--secure"),
            ("lock name", "COMMAND"),
            ("lock name --ttl-ms 0 -- true", "--ttl-ms"),
            ("lock name --try --wait-ms 5 -- true", "--wait-ms"),
            ("lock  --target nowhere name -- true", "nowhere"),
        ] {
            let Err(Stop::Refuse(line)) = parse_words(words) else { panic!("{words} accepted") };
            assert!(line.contains(named), "{words}: {line}");
            assert!(!line.contains('\n') && line.starts_with("error: "), "{words}: {line}");
        }
    }

    #[test]
    fn help_goes_to_standard_output() {
        assert!(matches!(parse_words("--help"), Err(Stop::Show(text)) if text.contains("node")));
    }
}
