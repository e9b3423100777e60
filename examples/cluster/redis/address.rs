//! Where a Redis server is.

use std::fmt;

use redis::{Client, ConnectionAddr, IntoConnectionInfo};

/// The address of one Redis server, understood from a URL.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedisAddress {
    name: String,
    url: String,
}

/// A URL is not that of a Redis server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a URL like redis://host:port")]
pub(crate) struct NotARedisUrl(String);

impl RedisAddress {
    /// Understands `url`; the error repeats it without what may be a password.
    pub(crate) fn parse(url: &str) -> Result<Self, NotARedisUrl> {
        let info = url.into_connection_info().map_err(|_| NotARedisUrl(without_secrets(url)))?;
        let server = match info.addr() {
            ConnectionAddr::Tcp(host, port) if !host.is_empty() && *port != 0 => {
                format!("{}:{port}", host.to_ascii_lowercase())
            }
            ConnectionAddr::Unix(path) => path.display().to_string(),
            _ => return Err(NotARedisUrl(without_secrets(url))),
        };
        let name = match info.redis_settings().db() {
            0 => server,
            database => format!("{server}/{database}"),
        };
        Ok(Self { name, url: url.to_owned() })
    }

    /// What messages call the server, and what the ring places by: `host:port`, followed by
    /// `/database` where that is not 0. Never contains a password.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What connects to it.
    pub(super) fn client(&self) -> Client {
        Client::open(self.url.as_str()).expect("an address is made from a URL of Redis")
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("RedisAddress").field(&self.name).finish()
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

/// `url` without a user and password before its host, and without parameters.
fn without_secrets(url: &str) -> String {
    let url = url.split_once('?').map_or(url, |(before, _)| before);
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let Some((_, host)) = rest.rsplit_once('@') else { return url.to_owned() };
    if scheme.is_empty() { format!("…@{host}") } else { format!("{scheme}://…@{host}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_host_port_and_database() {
        for (url, name) in [
            ("redis://127.0.0.1:6379", "127.0.0.1:6379"),
            ("redis://LocalHost", "localhost:6379"),
            ("redis://:secret@h:7/0", "h:7"),
            ("redis://user:secret@h:7/2", "h:7/2"),
            ("redis://[::1]:7", "::1:7"),
            ("unix:///run/redis.sock", "/run/redis.sock"),
        ] {
            assert_eq!(RedisAddress::parse(url).unwrap().name(), name, "{url}");
        }
    }

    #[test]
    fn what_is_no_url_of_redis_is_named_without_its_password() {
        for (url, named) in [
            ("", "\"\""),
            ("localhost:6379", "localhost:6379"),
            ("http://h:1", "http://h:1"),
            ("redis://", "redis://"),
            ("redis://h:port", "redis://h:port"),
            ("redis://h:0", "redis://h:0"),
            ("redis://h:70000", "redis://h:70000"),
            ("redis://h:1/x", "redis://h:1/x"),
            ("rediss://h:1", "rediss://h:1"),
            ("redis://user:secret@h:port", "redis://…@h:port"),
            ("user:secret@h:1", "…@h:1"),
        ] {
            let refused = RedisAddress::parse(url).unwrap_err().to_string();
            assert!(refused.contains(named) && !refused.contains("secret"), "{url}: {refused}");
        }
    }
}
