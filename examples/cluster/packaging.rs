//! What stands beside the program says of it what is so: the image, the containers, the unit, and
//! what watches them. None of them is run by tests; what can be wrong in them is that the program
//! has no such flag, file, port or setting.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Mutex;

use crate::cli::{self, Command};
use crate::config::{ClusterConfig, Setting};

const DOCKERFILE: &str = include_str!("../Dockerfile");
const COMPOSE: &str = include_str!("../compose.yaml");
const UNIT: &str = include_str!("../ops/dss@.service");
const PROMETHEUS: &str = include_str!("../ops/prometheus.yml");

/// The folder of this package, in which `compose.yaml` lies.
fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The cluster of `compose.yaml`.
fn cluster() -> ClusterConfig {
    ClusterConfig::read(&here().join("ops/compose.toml")).unwrap()
}

/// What this command line runs.
fn command(words: &[String]) -> Command {
    let line = cli::parse(words.iter().map(OsString::from));
    line.unwrap_or_else(|stop| panic!("{words:?}: {stop:?}")).command.expect("it names one")
}

/// The words of an array such as `["a", "b"]` that follows this in a line.
fn array_after(text: &str, before: &str) -> Vec<String> {
    let rest = text.split_once(before).unwrap_or_else(|| panic!("{before:?} is missing")).1;
    let line = rest.lines().next().unwrap_or_default();
    serde_json::from_str(line.trim()).unwrap_or_else(|error| panic!("{before}{line}: {error}"))
}

/// The services of `compose.yaml`, each with its lines.
fn services() -> BTreeMap<&'static str, String> {
    let all = COMPOSE.split_once("\nservices:\n").unwrap().1.split_once("\nvolumes:\n").unwrap().0;
    let mut services: BTreeMap<&str, String> = BTreeMap::new();
    let mut current = "";
    for line in all.lines() {
        match line.strip_prefix("  ") {
            Some(name) if !name.starts_with([' ', '#']) => current = name.trim_end_matches(':'),
            _ => {
                let lines = services.entry(current).or_default();
                lines.push_str(line);
                lines.push('\n');
            }
        }
    }
    services
}

/// What is mounted into a service: the part before the colon, and that after it.
fn volumes(lines: &str) -> Vec<(String, String)> {
    let (_, after) = lines.split_once("    volumes:").unwrap();
    let list: Vec<String> = match after.trim_start_matches(' ').strip_prefix('\n') {
        Some(items) => items
            .lines()
            .map_while(|line| line.strip_prefix("      - "))
            .map(str::to_owned)
            .collect(),
        None => serde_json::from_str(after.lines().next().unwrap()).unwrap(),
    };
    let halves = list.iter().map(|item| item.trim_end_matches(":ro").split_once(':').unwrap());
    halves.map(|(from, to)| (from.to_owned(), to.to_owned())).collect()
}

#[test]
fn the_image_runs_this_program_as_it_can_be_run() {
    let build = format!("--package {} --example cluster", env!("CARGO_PKG_NAME"));
    assert!(DOCKERFILE.contains(&build) && DOCKERFILE.contains("--locked"), "{build}");
    assert!(here().join("../Cargo.lock").is_file());
    let entry = array_after(DOCKERFILE, "\nENTRYPOINT ");
    assert!(DOCKERFILE.contains(&format!("COPY --from=build /cluster {}\n", entry[0])));
    let help = [entry.clone(), array_after(DOCKERFILE, "\nCMD ")].concat();
    let shown = cli::parse(help.iter().map(OsString::from));
    assert!(matches!(shown, Err(cli::Stop::Show(_))), "{help:?}");
    let health = array_after(DOCKERFILE, "\\\n    CMD ");
    assert_eq!(health[0], entry[0]);
    assert!(matches!(command(&health), Command::Health(_)));

    // What is exposed is what the nodes of compose.yaml listen at, which write into its volume.
    let cluster = cluster();
    let node = &cluster.nodes()[0];
    let port = |address: &str| address.rsplit_once(':').unwrap().1.to_owned();
    let (client, peer) = (port(node.client.as_str()), port(node.peer.as_str()));
    assert!(DOCKERFILE.contains(&format!("\nEXPOSE {client} {peer}\n")));
    assert!(DOCKERFILE.contains(&format!("\nVOLUME {}\n", cluster.data_dir().display())));
    let ignored = std::fs::read_to_string(here().join("../.dockerignore")).unwrap();
    assert!(ignored.lines().any(|line| line.trim_matches('/') == "target"), "{ignored}");
}

#[test]
fn every_container_of_a_node_runs_a_node_of_the_file_and_asks_it_for_its_health() {
    let (cluster, services) = (cluster(), services());
    let program = array_after(DOCKERFILE, "\nENTRYPOINT ").remove(0);
    for node in cluster.nodes() {
        let lines = &services[node.name.as_str()];
        let words = [vec![program.clone()], array_after(lines, "    command: ")].concat();
        let Command::Node(arguments) = command(&words) else { panic!("{words:?}") };
        assert_eq!(arguments.id, node.name);
        let volumes = volumes(lines);
        let file = volumes.iter().find(|(_, to)| Path::new(to) == arguments.config).unwrap();
        assert_eq!(here().join(&file.0), here().join("./ops/compose.toml"));
        let data = cluster.data_dir().display().to_string();
        assert!(volumes.contains(&(node.name.clone(), data)), "{volumes:?}");

        let test = array_after(lines, "test: ");
        assert_eq!(test[..2], ["CMD".to_owned(), program.clone()]);
        let Command::Health(health) = command(&test[1..]) else { panic!("{test:?}") };
        let expected = format!("{}://{}/", cluster.scheme(), node.client);
        assert_eq!(health.target.at("/").to_string(), expected);

        // Clients of this machine reach it, and nobody else's.
        let ports = array_after(lines, "    ports: ").remove(0);
        let (host, port) = node.client.as_str().rsplit_once(':').unwrap();
        assert_eq!(host, node.name, "containers reach each other by their names");
        assert!(ports.starts_with("127.0.0.1:") && ports.ends_with(&format!(":{port}")), "{ports}");
    }
    let redis: Vec<_> = services.keys().filter(|name| name.starts_with("redis-")).collect();
    assert_eq!(cluster.redis_names().split(", ").count(), redis.len());
    for name in &redis {
        assert!(cluster.redis_names().contains(&format!("{name}:6379")), "{name}");
        assert!(COMPOSE.contains("depends_on: [redis-1, redis-2, redis-3]"));
    }
    let targets = array_after(PROMETHEUS, "- targets: ");
    let clients: Vec<_> = cluster.nodes().iter().map(|node| node.client.to_string()).collect();
    assert_eq!(targets, clients);
}

#[test]
fn what_is_mounted_into_containers_is_there() {
    let declared: Vec<_> =
        COMPOSE.split_once("\nvolumes:\n").unwrap().1.lines().map(|line| line.trim()).collect();
    let mut files = 0;
    for (service, lines) in services() {
        for (from, to) in volumes(&lines) {
            assert!(to.starts_with('/'), "{service}: {to}");
            if from.starts_with("./") {
                assert!(here().join(&from).is_file(), "{service}: {from}");
                files += 1;
            } else {
                assert!(declared.contains(&format!("{from}:").as_str()), "{service}: {from}");
            }
        }
    }
    assert_eq!(files, 8);
    assert!(PROMETHEUS.contains("  - alerts.yml\n"));
    assert!(services()["prometheus"].contains("/etc/prometheus/alerts.yml:ro"));
    // Grafana looks for dashboards where the file says.
    let provider = include_str!("../ops/grafana/dashboards.yml");
    let folder = provider.lines().find_map(|line| line.trim().strip_prefix("path: ")).unwrap();
    let dashboard =
        volumes(&services()["grafana"]).into_iter().find(|(from, _)| from.ends_with("dss.json"));
    assert_eq!(Path::new(&dashboard.unwrap().1).parent(), Some(Path::new(folder)));
    let source = include_str!("../ops/grafana/datasource.yml");
    assert!(
        services()["prometheus"].contains("9090:9090") && source.contains("http://prometheus:9090")
    );
}

#[test]
fn the_unit_runs_a_node_and_knows_how_it_ends() {
    let value = |key: &str| {
        let line = UNIT.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        line.unwrap_or_else(|| panic!("{key} is missing")).replace("%i", "n1")
    };
    let words: Vec<_> = value("ExecStart").split_whitespace().map(str::to_owned).collect();
    let Command::Node(arguments) = command(&words) else { panic!("{words:?}") };
    assert_eq!(arguments.id, "n1");
    let data = arguments.storage.data_dir.unwrap();
    assert_eq!(data, Path::new("/var/lib").join(value("StateDirectory")));
    assert_eq!(value("RestartPreventExitStatus"), crate::USAGE.to_string());

    // Whatever it sets or proposes in the environment is looked up there.
    let asked = Mutex::new(Vec::new());
    let none = Setting::of_environment(|name| {
        asked.lock().unwrap().push(name.to_owned());
        None
    });
    assert_eq!(none.unwrap(), []);
    let set =
        UNIT.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix("Environment="));
    for line in set {
        let name = line.split('=').next().unwrap();
        assert!(asked.lock().unwrap().iter().any(|known| known == name), "{name}");
    }
}

#[test]
#[cfg_attr(no_systemd_analyze, ignore = "systemd-analyze is not installed")]
fn systemd_has_nothing_against_the_unit() {
    // It looks whether the program is there: this one is.
    let program = std::env::current_exe().unwrap().display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("dss@n1.service");
    std::fs::write(&unit, UNIT.replace("/usr/local/bin/cluster", &program)).unwrap();
    let verified = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&unit)
        .output()
        .unwrap();
    let said = String::from_utf8([verified.stdout, verified.stderr].concat()).unwrap();
    // What it says of the machine's other units is not about this one.
    assert!(!said.contains("dss@n1.service"), "{said}");
}
