//! Whether a Redis server is one that may keep data.

use super::super::failure::RedisFailure;
use super::super::node::RedisNode;

/// The oldest major version that knows what the scripts need.
const VERSION_MIN: u32 = 7;

/// What a server says about itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Health {
    /// Why it may not be used.
    pub(super) problem: Option<String>,
    /// Whether it writes to disk what it acknowledges.
    pub(super) appends: bool,
}

/// Asks the server.
pub(super) async fn inspect(node: &RedisNode) -> Result<Health, RedisFailure> {
    let info: String = node.run(redis::cmd("INFO").arg("everything")).await?;
    Ok(judge(&info))
}

fn judge(info: &str) -> Health {
    let field = |name: &str| {
        let of = |line: &'_ str| {
            line.trim_end()
                .split_once(':')
                .filter(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
        };
        info.lines().find_map(of)
    };
    let version = field("redis_version").unwrap_or_default();
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    let policy = field("maxmemory_policy").unwrap_or_default();
    let limited = field("maxmemory").is_some_and(|limit| limit != "0");
    let problem = if major < VERSION_MIN {
        Some(format!("its version is {version}, older than {VERSION_MIN}.0"))
    } else if limited && policy.starts_with("allkeys") {
        Some(format!("its maxmemory-policy {policy} drops values: set it to noeviction"))
    } else if field("role").is_some_and(|role| role != "master") {
        Some("it is a replica".to_owned())
    } else {
        None
    };
    Health { problem, appends: field("aof_enabled").is_some_and(|on| on == "1") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: &str = "# Server\r\nredis_version:7.0.15\r\nmaxmemory:0\r\n\
                        maxmemory_policy:noeviction\r\naof_enabled:1\r\nrole:master\r\n";

    #[test]
    fn a_server_that_drops_values_or_is_too_old_or_a_replica_is_refused() {
        assert_eq!(judge(FINE), Health { problem: None, appends: true });
        assert!(!judge(&FINE.replace("enabled:1", "enabled:0")).appends);
        let evicting = FINE.replace("noeviction", "allkeys-lru");
        assert_eq!(judge(&evicting).problem, None, "without a limit nothing is dropped");
        for (info, named) in [
            (evicting.replace("maxmemory:0", "maxmemory:1000"), "allkeys-lru"),
            (FINE.replace("7.0.15", "6.2.1"), "6.2.1"),
            (FINE.replace("master", "slave"), "replica"),
            (String::new(), "version"),
        ] {
            let problem = judge(&info).problem.expect("it is refused");
            assert!(problem.contains(named), "{problem}");
        }
    }
}
