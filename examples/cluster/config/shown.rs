//! A configuration as it is in force, for people to look at.

use std::fmt::{self, Display};

use super::{ClusterConfig, NodeConfig};

/// As a file that says the same, defaults and what was said beside the file included. Redis
/// servers are without their passwords.
impl Display for ClusterConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "# {}", self.origin)?;
        for (setting, origin) in &self.overridden {
            writeln!(formatter, "# {setting}: {origin}")?;
        }
        writeln!(formatter, "cluster = {}", text(&self.cluster))?;
        writeln!(formatter, "data_dir = {}", text(&self.data_dir.to_string_lossy()))?;
        writeln!(formatter, "insecure = {}", self.insecure)?;
        for NodeConfig { name, client, peer, joins, .. } in &self.nodes {
            writeln!(formatter, "\n[[nodes]]\nid = {}", text(name))?;
            writeln!(formatter, "client = {}", text(client.as_str()))?;
            writeln!(formatter, "peer = {}", text(peer.as_str()))?;
            if *joins {
                writeln!(formatter, "joins = true")?;
            }
        }
        if !self.redis.is_empty() {
            let urls = self.redis.iter().map(|server| text(&format!("redis://{}", server.name())));
            let urls = urls.collect::<Vec<_>>().join(", ");
            writeln!(formatter, "\n[redis]\nurls = [{urls}]")?;
            writeln!(formatter, "copies = {}", self.redis_copies().count())?;
        }
        if let Some(folder) = &self.tls_folder {
            writeln!(formatter, "\n[tls]\nfolder = {}", text(&folder.to_string_lossy()))?;
            writeln!(formatter, "client_certificates = {}", self.tls_client_certificates)?;
        }
        let election_timeout = self.timing.election_timeout.as_millis();
        writeln!(formatter, "\n[timing]\nelection_timeout_ms = {election_timeout}")?;
        writeln!(formatter, "heartbeat_ms = {}", self.timing.heartbeat.as_millis())?;
        writeln!(formatter, "\n[auth]\nenabled = {}", self.auth.enabled)?;
        if let Some(bootstrap) = &self.auth.bootstrap {
            writeln!(formatter, "bootstrap = {}", text(&bootstrap.to_string()))?;
        }
        writeln!(formatter, "\n[audit]\nenabled = {}", self.audit().is_some())?;
        if let Some(file) = &self.audit.key_file {
            writeln!(formatter, "key_file = {}", text(&file.to_string_lossy()))?;
        }
        writeln!(formatter, "file_bytes_max = {}", self.audit.file_bytes_max)?;
        writeln!(formatter, "\n[limits]")?;
        for (name, value) in self.limits.values() {
            writeln!(formatter, "{name} = {value}")?;
        }
        Ok(())
    }
}

/// A string of TOML. Its escapes are those of JSON.
fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_says_the_same_as_what_was_read() {
        let file = "cluster = \"de\\\"mo ä\"\n[[nodes]]\nid = 'a'\nclient = 'h:1'\npeer = '[::1]:2'\n\
                    [[nodes]]\nid = 'b'\nclient = 'h:3'\npeer = 'h:4'\njoins = true\n\
                    [redis]\nurls = ['redis://:secret@h/3']\n[limits]\nidle_ms = 7\n[tls]\nfolder = 'certs'\n\
                    client_certificates = true\n\
                    [auth]\nenabled = true\n[audit]\nkey_file = 'k'\nfile_bytes_max = 5000\n";
        let config = ClusterConfig::parse("c.toml", file).unwrap();
        let shown = config.to_string();
        assert!(!shown.contains("secret"), "{shown}");
        let again = ClusterConfig::parse("c.toml", &shown).unwrap();
        assert_eq!(again.to_string(), shown);
        assert_eq!((again.cluster(), again.nodes()), (config.cluster(), config.nodes()));
        assert_eq!((again.limits(), again.timing()), (config.limits(), config.timing()));
        assert_eq!(again.redis_names(), config.redis_names());
        assert!(shown.contains("\ncopies = 1\n"), "{shown}");
        assert_eq!(again.auth(), config.auth());
        assert!(again.audit().is_some(), "on where tokens are needed");
        assert_eq!(again.tls_folder(), config.tls_folder());
        assert!(again.asks_clients_for_certificates());
    }

    #[test]
    fn what_was_said_beside_the_file_is_named() {
        let setting = "limits.idle_ms=7".parse().unwrap();
        let config = ClusterConfig::local().with_settings([setting]).unwrap();
        let shown = config.with_storage(Some("d".into()), None).unwrap().to_string();
        for line in ["# limits.idle_ms: --set limits.idle_ms", "# data_dir: --data-dir"] {
            assert!(shown.lines().any(|other| other == line), "{shown}");
        }
        assert!(shown.contains("\nidle_ms = 7\n"), "{shown}");
    }
}
