use super::*;

const FILE: &str = r#"cluster = "demo"
data_dir = "somewhere"

[[nodes]]
id = "n1"
client = "127.0.0.1:8001"
peer = "127.0.0.1:9001"

[[nodes]]
id = "n2"
client = "node-2.example:8002"
peer = "[::1]:9002"

[redis]
urls = ["redis://127.0.0.1:6379"]

[timing]
election_timeout_ms = 600
heartbeat_ms = 50
"#;

fn refusal(text: &str) -> String {
    let line = ClusterConfig::parse("c.toml", text).unwrap_err().to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn a_whole_file_is_understood() {
    let config = ClusterConfig::parse("c.toml", FILE).unwrap();
    assert_eq!(config.cluster(), "demo");
    assert_eq!(config.data_dir(), Path::new("somewhere"));
    assert_eq!(config.redis().len(), 1);
    assert_eq!(config.redis()[0].name(), "127.0.0.1:6379");
    assert_eq!(config.timing().election_timeout, Duration::from_millis(600));
    let names: Vec<&str> = config.nodes().iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["n1", "n2"]);
    assert_eq!(config.node("n2").unwrap().peer.as_str(), "[::1]:9002");
    assert_eq!(config.node("n2").unwrap().field("peer"), "nodes[1].peer");
}

#[test]
fn a_name_and_its_id_lead_to_each_other() {
    let config = ClusterConfig::parse("c.toml", FILE).unwrap();
    let id = config.node_id("n1").unwrap();
    assert_eq!(id.get(), xxh3_64(b"n1"), "the id is part of what is stored and sent");
    assert_eq!(config.name(id), Some("n1"));
    assert_eq!(config.node_id("n9"), None);
    assert_eq!(config.name(NodeId::new(1)), None);
}

#[test]
fn what_is_optional_has_defaults() {
    let text = "cluster='c'\n[[nodes]]\nid='a'\nclient='h:1'\npeer='h:2'\n";
    let config = ClusterConfig::parse("c.toml", text).unwrap();
    assert_eq!(config.data_dir(), Path::new("dss-data"));
    assert_eq!(config.timing(), Timing::default());
    assert!(config.redis().is_empty());
}

#[test]
fn every_refusal_names_the_file_the_line_and_the_field() {
    for (from, to, place, named) in [
        ("data_dir", "data_dri", "c.toml:2", "data_dri"),
        ("client = \"127", "clinet = \"127", "c.toml:6", "clinet"),
        ("[redis]", "[auth]\nenabled = 1\n[redis]", "c.toml:15", "auth.enabled"),
        ("[redis]", "[auth]\nbotstrap = \"x\"\n[redis]", "c.toml:15", "auth.botstrap"),
        ("[redis]", "[audit]\nfile_bytes_max = 0\n[redis]", "c.toml:15", "audit.file_bytes_max"),
        ("heartbeat_ms = 50", "beat_ms = 50", "c.toml:19", "beat_ms"),
        ("heartbeat_ms = 50", "heartbeat_ms = 0", "c.toml:17", "timing.heartbeat_ms"),
        ("heartbeat_ms = 50", "heartbeat_ms = 300", "c.toml:17", "timing.election_timeout_ms"),
        ("= 600", "= \"soon\"", "c.toml:18", "election_timeout_ms"),
        ("= 600", "= -1", "c.toml:18", "election_timeout_ms"),
        ("= 600", "= 999999999999999", "c.toml:17", "timing.election_timeout_ms"),
        ("\"n2\"", "\"n1\"", "c.toml:10", "nodes[1].id"),
        ("\"n2\"", "\"../n2\"", "c.toml:10", "nodes[1].id"),
        ("\"n2\"", "\"\"", "c.toml:10", "nodes[1].id"),
        ("\"demo\"", "\"de\\u0007mo\"", "c.toml:1", "cluster"),
        ("\"somewhere\"", "\"\"", "c.toml:2", "data_dir"),
        ("node-2.example:8002", "node-2.example", "c.toml:11", "nodes[1].client"),
        ("node-2.example:8002", "node-2.example:0", "c.toml:11", "nodes[1].client"),
        ("node-2.example:8002", "node-2.example:+1", "c.toml:11", "nodes[1].client"),
        ("node-2.example:8002", "127.0.0.1:9001", "c.toml:11", "nodes[0].peer"),
        ("[::1]:9002", "::1:9002", "c.toml:12", "nodes[1].peer"),
        ("redis://", "http://", "c.toml:15", "redis.urls[0]"),
        ("[\"redis://127.0.0.1:6379\"]", "[]", "c.toml:15", "redis.urls"),
        ("[\"redis:", "[\"redis://127.0.0.1\", \"redis:", "c.toml:15", "redis.urls[1]"),
        ("id = \"n1\"\n", "", "c.toml:4", "id"),
        ("[redis]\n", "[redis]\ncopies = 3\n", "c.toml:15", "redis.copies: must be 1 or 2"),
        ("[redis]\n", "[redis]\ncopies = 2\n", "c.toml:15", "redis.copies: 2 copies need"),
        ("cluster = \"demo\"", "cluster =", "c.toml:1", "cluster"),
    ] {
        assert!(FILE.contains(from), "{from}");
        let line = refusal(&FILE.replacen(from, to, 1));
        assert!(line.starts_with(&format!("{place}: ")), "{to}: {line}");
        assert!(line.contains(named), "{to}: {line}");
    }
}

#[test]
fn a_file_without_nodes_or_a_cluster_is_refused() {
    assert!(refusal("cluster = 'c'\nnodes = []").contains("nodes"));
    assert!(refusal("[[nodes]]\nid='a'\nclient='h:1'\npeer='h:2'").contains("cluster"));
    assert!(refusal("").contains("c.toml"));
}

#[test]
fn names_with_the_same_hash_are_refused() {
    let line = parse::parse("c.toml", FILE, |_| NodeId::new(7)).unwrap_err().to_string();
    assert!(line.contains("\"n1\"") && line.contains("\"n2\"") && line.contains("hash"), "{line}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let line = ClusterConfig::read(Path::new("no/such.toml")).unwrap_err().to_string();
    assert!(line.starts_with("no/such.toml: cannot be read"), "{line}");
}

#[test]
fn the_command_line_wins_over_the_file() {
    let config = ClusterConfig::parse("c.toml", FILE).unwrap();
    let config = config.with_storage(Some("d".into()), None).unwrap();
    assert_eq!(config.data_dir(), Path::new("d"));
    assert_eq!(config.redis().len(), 1);
    let refused = config.with_storage(None, Some(vec!["secret@nonsense".into()])).unwrap_err();
    assert!(refused.to_string().starts_with("--redis: "), "{refused}");
    assert!(!refused.to_string().contains("secret"), "{refused}");
    let twice = ["redis://:secret@h", "redis://H:6379"].map(str::to_owned).to_vec();
    let refused = ClusterConfig::local().with_storage(None, Some(twice)).unwrap_err();
    assert_eq!(refused.to_string(), "--redis: h:6379 is named twice");
}

#[test]
fn the_local_cluster_is_the_one_of_the_manual() {
    let config = ClusterConfig::local();
    let of = |name: &str| config.node(name).unwrap().clone();
    assert_eq!(of("n1").client.as_str(), "127.0.0.1:8001");
    assert_eq!(of("n3").peer.as_str(), "127.0.0.1:9003");
    assert_eq!(config.nodes().len(), 3);
}

#[test]
fn every_timing_that_is_accepted_leaves_room_for_a_lease() {
    for (election, heartbeat) in [(3, 1), (600_000, 1)] {
        let text = FILE
            .replace("heartbeat_ms = 50", &format!("heartbeat_ms = {heartbeat}"))
            .replace("election_timeout_ms = 600", &format!("election_timeout_ms = {election}"));
        let timing = ClusterConfig::parse("c.toml", &text).unwrap().timing();
        assert!(dss_mesi::LeaseConfig::for_election_timeout(timing.election_timeout).is_ok());
    }
}

#[test]
fn limits_are_read_by_name_and_kept_in_their_ranges() {
    let config = |limits: &str| format!("{FILE}[limits]\n{limits}\n");
    let text = config("connections_max = 7\nidle_ms = 250\nhead_bytes_max = 8192");
    let limits = ClusterConfig::parse("c.toml", &text).unwrap().limits();
    let expected = Limits {
        connections_max: 7,
        idle: Duration::from_millis(250),
        head_bytes_max: 8192,
        ..Limits::default()
    };
    assert_eq!(limits, expected);
    assert_eq!(ClusterConfig::parse("c.toml", FILE).unwrap().limits(), Limits::default());
    for (wrong, named) in [
        ("requests_max = 0", "limits.requests_max: must be from 1 to"),
        ("head_bytes_max = 100", "limits.head_bytes_max: must be from 8192"),
        ("body_ms = 3600001", "limits.body_ms"),
        ("waits_max = -1", "waits_max"),
        ("connexions_max = 1", "connexions_max"),
    ] {
        let line = refusal(&config(wrong));
        assert!(line.contains(named) && line.starts_with("c.toml:21: "), "{line}");
    }
}

#[test]
fn connections_are_no_more_than_the_operating_system_allows() {
    let most = |connections| {
        ClusterConfig::local().with_connections_up_to(connections).limits().connections_max
    };
    let default = Limits::default().connections_max;
    assert_eq!([most(usize::MAX), most(default), most(700), most(0)], [default, default, 700, 1]);
}

#[test]
fn the_example_file_shows_every_limit_with_its_default() {
    let file = include_str!("../../cluster.toml");
    ClusterConfig::parse("cluster.toml", file).unwrap();
    let (_, limits) = file.split_once("# [limits]\n").unwrap();
    let shown: Vec<(&str, u128)> = limits
        .lines()
        .map_while(|line| line.strip_prefix("# ")?.split_once(" = "))
        .map(|(name, value)| (name, value.split('#').next().unwrap().trim().parse().unwrap()))
        .collect();
    assert_eq!(shown, Limits::default().values().collect::<Vec<_>>());
}
