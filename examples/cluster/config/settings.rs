//! What is said beside the file.
//!
//! There is one precedence: the file, over it the environment, over that the command line. A
//! setting has one name in all of them:
//!
//! | file | environment | command line |
//! | --- | --- | --- |
//! | `data_dir` | `DSS_DATA_DIR` | `--data-dir DIR` |
//! | `urls` in `[redis]` | `DSS_REDIS_URLS`, with commas | `--redis URL[,URL…]` |
//! | `copies` in `[redis]` | `DSS_REDIS_COPIES` | `--set redis.copies=2` |
//! | `idle_ms` in `[limits]` | `DSS_LIMITS_IDLE_MS` | `--set limits.idle_ms=MS` |
//! | `heartbeat_ms` in `[timing]` | `DSS_TIMING_HEARTBEAT_MS` | `--set timing.heartbeat_ms=MS` |
//! | `folder` in `[tls]` | `DSS_TLS_FOLDER` | `--set tls.folder=DIR` |
//! | `client_certificates` in `[tls]` | `DSS_TLS_CLIENT_CERTIFICATES` | `--set tls.client_certificates=true` |
//! | `insecure` | `DSS_INSECURE` | `--set insecure=true` |
//! | `enabled` in `[auth]` | `DSS_AUTH_ENABLED` | `--set auth.enabled=true` |
//! | `key_file` in `[audit]` | `DSS_AUDIT_KEY_FILE` | `--set audit.key_file=FILE` |
//!
//! Which nodes there are is for the file alone to say.

use std::ffi::OsString;
use std::str::FromStr;
use std::time::Duration;

use super::parse::{ConfigError, add_redis_server};
use super::{AuditConfig, AuthConfig, ClusterConfig, Limits};
use crate::redis::Copies;

/// One value for one setting, and where it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    name: String,
    value: String,
    origin: String,
}

/// What is not a [`Setting`].
#[derive(Debug, thiserror::Error)]
#[error("a setting looks like limits.idle_ms=30000")]
pub(crate) struct SettingError;

/// As the value of `--set`.
impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let (name, value) = text.split_once('=').ok_or(SettingError)?;
        let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
        let origin = format!("--set {name}");
        Ok(Self { name, value, origin })
    }
}

impl Setting {
    /// What the environment says, in which `variable` looks up.
    ///
    /// # Errors
    ///
    /// Where a variable is no text.
    pub(crate) fn of_environment(
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Vec<Self>, ConfigError> {
        let limits = Limits::NAMES.map(|name| format!("limits.{name}"));
        let others = [
            "data_dir",
            "redis.urls",
            "redis.copies",
            "timing.election_timeout_ms",
            "timing.heartbeat_ms",
            "tls.folder",
            "tls.client_certificates",
            "insecure",
        ];
        let security = AuthConfig::NAMES.into_iter().chain(AuditConfig::NAMES);
        let mut settings = Vec::new();
        for name in others.into_iter().chain(security).map(str::to_owned).chain(limits) {
            let origin = format!("DSS_{}", name.replace('.', "_").to_uppercase());
            if let Some(value) = variable(&origin) {
                let value = value
                    .into_string()
                    .map_err(|_| ConfigError::beside_the_file(&origin, "is not text"))?;
                settings.push(Self { name, value, origin });
            }
        }
        Ok(settings)
    }

    fn number(&self) -> Result<u64, ConfigError> {
        self.value.parse().map_err(|_| self.refuse("is not a number"))
    }

    fn truth(&self) -> Result<bool, ConfigError> {
        self.value.parse().map_err(|_| self.refuse("is not true or false"))
    }

    fn refuse(&self, problem: &str) -> ConfigError {
        ConfigError::beside_the_file(&self.origin, problem)
    }
}

impl ClusterConfig {
    /// The same cluster with these settings instead of its own; of two for the same the later
    /// counts.
    ///
    /// # Errors
    ///
    /// Where there is no such setting, or its value makes no sense.
    pub(crate) fn with_settings(
        mut self,
        settings: impl IntoIterator<Item = Setting>,
    ) -> Result<Self, ConfigError> {
        let mut timing_from = None;
        for setting in settings {
            match setting.name.as_str() {
                "data_dir" | "tls.folder" if setting.value.is_empty() => {
                    return Err(setting.refuse("must not be empty"));
                }
                "data_dir" => self.data_dir = setting.value.into(),
                "tls.client_certificates" => self.tls_client_certificates = setting.truth()?,
                "tls.folder" => self.tls_folder = Some(setting.value.into()),
                "insecure" => self.insecure = setting.truth()?,
                "redis.urls" => {
                    self.set_redis(setting.value.split(','), &setting.origin)?;
                    continue;
                }
                "redis.copies" => {
                    // Which servers there are may be said after this.
                    let copies = Copies::new(setting.number()?, usize::MAX)
                        .map_err(|problem| setting.refuse(&problem))?;
                    self.redis_copies = Some(copies);
                }
                "timing.election_timeout_ms" => {
                    self.timing.election_timeout = Duration::from_millis(setting.number()?);
                    timing_from = Some(setting.origin.clone());
                }
                "timing.heartbeat_ms" => {
                    self.timing.heartbeat = Duration::from_millis(setting.number()?);
                    timing_from = Some(setting.origin.clone());
                }
                name => {
                    let set = match name.split_once('.') {
                        Some(("limits", limit)) => self.limits.set(limit, setting.number()?),
                        Some(("auth", name)) => self.auth.set(name, &setting.value),
                        Some(("audit", name)) => self.audit.set(name, &setting.value),
                        _ => Err("there is no such setting".to_owned()),
                    };
                    set.map_err(|problem| setting.refuse(&problem))?;
                }
            }
            self.overridden.push((setting.name, setting.origin));
        }
        if let Some(origin) = timing_from {
            self.timing.check().map_err(|(field, problem)| {
                ConfigError::beside_the_file(&origin, &format!("{field}: {problem}"))
            })?;
        }
        Ok(self)
    }

    /// Whether there are servers enough for the copies, once all has been said.
    pub(super) fn check_copies(&self) -> Result<(), ConfigError> {
        let Some(copies) = self.redis_copies else { return Ok(()) };
        let said = self.overridden.iter().rev().find(|(name, _)| name.starts_with("redis."));
        let origin = said.map_or(&self.origin, |(_, origin)| origin);
        copies.check(self.redis.len()).map_err(|problem| {
            ConfigError::beside_the_file(origin, &format!("redis.copies: {problem}"))
        })
    }

    pub(super) fn set_redis<'a>(
        &mut self,
        urls: impl Iterator<Item = &'a str>,
        origin: &str,
    ) -> Result<(), ConfigError> {
        let mut servers = Vec::new();
        for url in urls {
            add_redis_server(&mut servers, url)
                .map_err(|problem| ConfigError::beside_the_file(origin, &problem))?;
        }
        self.redis = servers;
        self.overridden.push(("redis.urls".to_owned(), origin.to_owned()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Vec<Setting> {
        let variable = |name: &str| {
            let of_name = |(other, _): &&(&str, &str)| *other == name;
            variables.iter().find(of_name).map(|(_, value)| OsString::from(value))
        };
        Setting::of_environment(variable).unwrap()
    }

    fn refusal(setting: &str) -> String {
        let setting = setting.parse().unwrap();
        ClusterConfig::local().with_settings([setting]).unwrap_err().to_string()
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
        let file = "cluster='c'\ndata_dir='f'\n[[nodes]]\nid='a'\nclient='h:1'\npeer='h:2'\n\
                    [limits]\nidle_ms=1\nbody_ms=1\nheaders_ms=1\n[timing]\nheartbeat_ms=10\n";
        let environment = environment(&[
            ("DSS_DATA_DIR", "e"),
            ("DSS_LIMITS_BODY_MS", "2"),
            ("DSS_LIMITS_HEADERS_MS", "2"),
            ("DSS_TIMING_HEARTBEAT_MS", "20"),
            ("DSS_REDIS_URLS", "redis://a,redis://b"),
            ("DSS_TLS_FOLDER", "certs"),
            ("DSS_INSECURE", "true"),
            ("DSS_LOG", "debug"),
        ]);
        let line = "limits.headers_ms = 3".parse().unwrap();
        let config = ClusterConfig::parse("c.toml", file).unwrap();
        let config = config.with_settings(environment).unwrap().with_settings([line]).unwrap();
        let limits = config.limits();
        let millis = [limits.idle, limits.body, limits.headers].map(|span| span.as_millis());
        assert_eq!(millis, [1, 2, 3]);
        assert_eq!(config.timing().heartbeat, Duration::from_millis(20));
        assert_eq!(config.data_dir().to_str(), Some("e"));
        assert_eq!(config.redis_names(), "a:6379, b:6379");
        assert_eq!(config.redis_copies(), Copies::One, "of two servers, unless it is said");
        assert_eq!(config.tls_folder().and_then(std::path::Path::to_str), Some("certs"));
        let line = ["insecure=false", "tls.folder=others"].map(|text| text.parse().unwrap());
        let config = config.with_settings(line).unwrap();
        assert!(!config.insecure, "the command line wins");
        assert_eq!(config.tls_folder().and_then(std::path::Path::to_str), Some("others"));
        let config = config.with_storage(Some("l".into()), Some(vec!["redis://c".into()])).unwrap();
        assert_eq!(config.data_dir().to_str(), Some("l"));
        assert_eq!(config.redis_names(), "c:6379");
    }

    #[test]
    fn there_are_as_many_copies_as_is_said_or_as_there_are_servers_for() {
        let urls = |count: usize| (0..count).map(|number| format!("redis://r{number}")).collect();
        let with = |said: &[&str], line: &[&str], servers| {
            let variables: Vec<_> = said.iter().map(|it| ("DSS_REDIS_COPIES", *it)).collect();
            let line: Vec<Setting> = line.iter().map(|text| text.parse().unwrap()).collect();
            let config = ClusterConfig::local().with_settings(environment(&variables))?;
            let config = config.with_settings(line)?.with_storage(None, Some(urls(servers)))?;
            Ok::<_, ConfigError>(config.redis_copies().count())
        };
        assert_eq!([1, 2, 3, 9].map(|servers| with(&[], &[], servers).unwrap()), [1, 1, 2, 2]);
        assert_eq!(with(&["2"], &[], 2), Ok(2));
        assert_eq!(with(&["2"], &["redis.copies=1"], 3), Ok(1), "the command line wins");
        let refused = with(&["2"], &[], 1).unwrap_err().to_string();
        assert!(refused.ends_with("2 copies need as many Redis servers, and there are 1"));
        for copies in ["0", "3"] {
            let refused = with(&[copies], &[], 3).unwrap_err().to_string();
            assert_eq!(refused, "DSS_REDIS_COPIES: must be 1 or 2");
        }
        let without =
            ClusterConfig::local().with_settings(environment(&[("DSS_REDIS_COPIES", "2")]));
        let refused = without.unwrap().with_storage(None, None).unwrap_err().to_string();
        assert!(refused.starts_with("DSS_REDIS_COPIES: redis.copies: 2 copies"), "{refused}");
    }

    #[test]
    fn every_limit_has_a_variable_and_a_setting() {
        for name in Limits::NAMES {
            let variable = format!("DSS_LIMITS_{}", name.to_uppercase());
            let settings = environment(&[(&variable, "9000")]);
            let from_environment = ClusterConfig::local().with_settings(settings).unwrap();
            let setting = format!("limits.{name}=9000").parse().unwrap();
            let from_line = ClusterConfig::local().with_settings([setting]).unwrap();
            assert_eq!(from_environment.limits(), from_line.limits(), "{name}");
            assert_ne!(from_line.limits(), Limits::default(), "{name}");
        }
    }

    #[test]
    fn what_is_written_down_follows_who_is_asked_unless_it_is_said() {
        let file = "cluster='c'\n[[nodes]]\nid='a'\nclient='h:1'\npeer='h:2'\n";
        let config = ClusterConfig::parse("c.toml", file).unwrap();
        assert!(!config.auth().enabled && config.audit().is_none(), "off by default");
        let with = |more: &str, variables: &[(&str, &str)], line: &[&str]| {
            let config = ClusterConfig::parse("c.toml", &format!("{file}{more}")).unwrap();
            let line: Vec<Setting> = line.iter().map(|text| text.parse().unwrap()).collect();
            config.with_settings(environment(variables)).unwrap().with_settings(line).unwrap()
        };
        let on = with("[auth]\nenabled=false\n", &[("DSS_AUTH_ENABLED", "true")], &[]);
        assert!(on.auth().enabled && on.audit().is_some());
        let off = with("[auth]\nenabled=true\n", &[], &["audit.enabled=false"]);
        assert!(off.auth().enabled && off.audit().is_none());
        let more = "[audit]\nenabled=true\nfile_bytes_max=5000\nkey_file='k'\n";
        let audited = with(more, &[("DSS_AUDIT_KEY_FILE", "e")], &["audit.file_bytes_max=6000"]);
        let audit = audited.audit().unwrap();
        assert_eq!((audit.key_file(Path::new("x")), audit.file_bytes_max), ("e".into(), 6000));
        assert!(!audited.auth().enabled);
        let bootstrap = format!("auth.bootstrap=ab:{}", "0f".repeat(32));
        assert!(with("", &[], &[&bootstrap]).auth().bootstrap.is_some());
    }

    #[test]
    fn a_refusal_names_where_it_was_said() {
        for (setting, expected) in [
            ("limits.idle_ms=0", "--set limits.idle_ms: must be from 1 to 3600000"),
            ("limits.idle_ms=soon", "--set limits.idle_ms: is not a number"),
            ("limits.idle=1", "--set limits.idle: there is no such limit"),
            ("cluster=x", "--set cluster: there is no such setting"),
            ("data_dir=", "--set data_dir: must not be empty"),
            ("tls.client_certificates=1", "--set tls.client_certificates: is not true or false"),
            ("tls.folder=", "--set tls.folder: must not be empty"),
            ("insecure=yes", "--set insecure: is not true or false"),
            ("redis.urls=http://a", "--set redis.urls: "),
            ("auth.enabled=yes", "--set auth.enabled: must be true or false"),
            ("auth.bootstrap=x", "--set auth.bootstrap: must look like <id>:<sha256>"),
            ("audit.file_bytes_max=1", "--set audit.file_bytes_max: must be from 4096 to"),
            ("timing.heartbeat_ms=0", "--set timing.heartbeat_ms: timing.heartbeat_ms: must be"),
            ("timing.heartbeat_ms=900", "--set timing.heartbeat_ms: timing.election_timeout_ms: "),
        ] {
            let line = refusal(setting);
            assert!(line.starts_with(expected), "{setting}: {line}");
        }
        assert!("limits.idle_ms".parse::<Setting>().is_err());
        let settings = environment(&[("DSS_LIMITS_WAITS_MAX", "-1")]);
        let refused = ClusterConfig::local().with_settings(settings).unwrap_err();
        assert_eq!(refused.to_string(), "DSS_LIMITS_WAITS_MAX: is not a number");
    }
}
