//! Golden scenarios: what a cluster does, message by message, as transcripts that are documentation
//! too. After `>` stands what happens to it, below that what it does, unless `quietly`.
//! `DSS_BLESS=1` writes the transcripts anew; then read what has changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use dss_raft::{Config, Configuration, NodeId, Restored};

use crate::cluster::{Cluster, Host, config, node, restored, voters};
use crate::transcript;

/// The words of one command.
struct Words<'a>(std::str::SplitWhitespace<'a>);

impl Words<'_> {
    fn next(&mut self) -> &str {
        self.0.next().expect("a word more")
    }

    fn number(&mut self) -> u64 {
        self.next().parse().expect("a number")
    }

    /// The number after this word, where it comes next.
    fn after(&mut self, word: &str) -> Option<u64> {
        let mut rest = self.0.clone();
        if rest.next() != Some(word) {
            return None;
        }
        self.0.next();
        Some(self.number())
    }

    /// Numbers, as far as there are any.
    fn numbers(&mut self) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(number) = self.0.clone().next().and_then(|word| word.parse().ok()) {
            self.0.next();
            numbers.push(number);
        }
        numbers
    }
}

/// `cluster 5 voters 3 compacting 10 lease 50`, or `logs 1 1 2 | 1 term 3`.
fn build(words: &mut Words<'_>) -> Cluster {
    let count = words.number();
    let members = words.after("voters").unwrap_or(count);
    let compacting = words.after("compacting");
    let drift = words.after("lease");
    let configure = move |number: u64| -> Config {
        let config = config(number);
        let config = match compacting {
            Some(entries) => config.compaction(entries, 1 << 20),
            None => config,
        };
        match drift {
            Some(drift) => config.lease_reads(u32::try_from(drift).unwrap()).unwrap(),
            None => config,
        }
    };
    Cluster::configured_with_members(count, voters(members), configure)
}

fn build_from_logs(line: &str) -> Cluster {
    let (logs, term) = line.split_once("term").expect("a term");
    let term = term.trim().parse().expect("a term");
    let log = |log: &str| -> Restored {
        let terms: Vec<u64> = log.split_whitespace().map(|term| term.parse().unwrap()).collect();
        restored(term, &terms)
    };
    Cluster::of(logs.split('|').map(log).collect::<Vec<_>>())
}

fn of(numbers: Vec<u64>) -> impl Iterator<Item = NodeId> {
    numbers.into_iter().map(node)
}

/// Commands that an embedder gives, and their refusals.
fn command(cluster: &mut Cluster, verb: &str, words: &mut Words<'_>) -> Option<String> {
    let now = cluster.now;
    let number = words.number();
    let refused = match verb {
        "propose" => {
            let command = Bytes::copy_from_slice(words.next().as_bytes());
            cluster.raft(number).propose(now, command).err().map(|error| error.to_string())
        }
        "read" => {
            cluster.raft(number).read(now);
            None
        }
        "transfer" => {
            let to = words.after("to").map(node);
            let refused = cluster.raft(number).transfer_leadership(now, to).err();
            refused.map(|error| error.to_string())
        }
        "change" => {
            assert_eq!(words.next(), "voters");
            let mut target = Configuration::of_voters(of(words.numbers()));
            if words.0.next() == Some("learners") {
                target = target.with_learners(of(words.numbers()));
            }
            let expected = cluster.raft(number).status().configuration;
            let refused = cluster.raft(number).change(now, &expected, target).err();
            refused.map(|error| error.to_string())
        }
        other => panic!("{other:?} is no command"),
    };
    refused.map(|refused| format!("{number} refuses: {refused}"))
}

/// Heartbeats and answers without news, of which there are many while time passes.
fn is_routine(line: &str) -> bool {
    line.contains(": I lead; ") || line.contains(": I have up to ")
}

/// Performs a command, and returns what happens.
fn perform(cluster: &mut Option<Cluster>, line: &str) -> Vec<String> {
    let mut words = Words(line.split_whitespace());
    let verb = words.next().to_owned();
    match verb.as_str() {
        "cluster" => {
            *cluster = Some(build(&mut words));
            return Vec::new();
        }
        "logs" => {
            *cluster = Some(build_from_logs(line.trim_start_matches("logs")));
            return Vec::new();
        }
        _ => {}
    }
    let cluster = cluster.as_mut().expect("a cluster comes first");
    cluster.transcript = Some(Vec::new());
    let mut refused = None;
    match verb.as_str() {
        "status" => {
            let status = |host: &Host| transcript::status(&host.raft.status());
            return cluster.hosts.values().map(status).collect();
        }
        "time-out" => cluster.time_out(words.number()),
        "pass" => cluster.advance(Duration::from_millis(words.number())),
        "isolate" => cluster.isolate(words.number()),
        "cut" => {
            let from = words.number();
            cluster.cut(from, words.number());
        }
        "heal" => cluster.heal(),
        "stall" => cluster.host_of(words.number()).syncs = false,
        "sync" => {
            let number = words.number();
            cluster.host_of(number).syncs = true;
            cluster.sync(number);
        }
        "restart" => cluster.restart(words.number()),
        "wipe" => cluster.wipe(words.number()),
        "fail-storage" => {
            let now = cluster.now;
            cluster.raft(words.number()).handle_storage_failed(now);
        }
        verb => refused = command(cluster, verb, &mut words),
    }
    cluster.settle();
    let mut lines = cluster.transcript.take().unwrap_or_default();
    if verb == "pass" {
        lines.retain(|line| !is_routine(line));
    }
    refused.into_iter().chain(lines).collect()
}

/// A scenario with what happens in it.
fn transcript_of(scenario: &str) -> String {
    let mut cluster = None;
    let mut text = String::new();
    for line in scenario.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            text += &format!("> {command}\n");
            let (command, is_quiet) = match command.strip_prefix("quietly ") {
                Some(command) => (command, true),
                None => (command, false),
            };
            let happened = perform(&mut cluster, command);
            for happened in happened.into_iter().filter(|_| !is_quiet) {
                text += &format!("  {happened}\n");
            }
        } else if !line.starts_with("  ") {
            text += &format!("{line}\n");
        }
    }
    text
}

fn scenarios() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/raft/scenarios");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_scenario_goes_as_written() {
    let files = scenarios();
    assert!(files.len() >= 10, "the scenarios are found");
    for file in files {
        let written = std::fs::read_to_string(&file).unwrap();
        let happened = transcript_of(&written);
        if std::env::var_os("DSS_BLESS").is_some() {
            std::fs::write(&file, &happened).unwrap();
            continue;
        }
        for (number, (written, happened)) in written.lines().zip(happened.lines()).enumerate() {
            assert_eq!(written, happened, "{}, line {}", file.display(), number + 1);
        }
        assert_eq!(written, happened, "{}", file.display());
    }
}

#[test]
fn a_transcript_depends_on_nothing_but_its_scenario() {
    for file in scenarios() {
        let written = std::fs::read_to_string(&file).unwrap();
        assert_eq!(transcript_of(&written), transcript_of(&written));
        assert!(!written.contains("\t") && written.lines().any(|line| line.starts_with("# ")));
    }
}
