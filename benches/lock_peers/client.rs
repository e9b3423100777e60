//! One client of any of the services.

use std::io;
use std::net::SocketAddr;

use crate::http::{Connection, Request};
use crate::service::Kind;
use crate::zookeeper::Session;

/// A connection, and a session or lease that outlives the measurement.
pub(crate) enum Client {
    Dss { connection: Connection, session: String },
    Etcd { connection: Connection, lease: String },
    ZooKeeper(Session),
}

impl Client {
    pub(crate) async fn open(kind: Kind, to: SocketAddr, number: usize) -> io::Result<Self> {
        Ok(match kind {
            Kind::Dss => {
                let (mut connection, session) =
                    (Connection::open(to).await?, format!("bench-{number}"));
                let path = format!("/v1/sessions/{session}");
                let body = r#"{"ttl_ms":600000}"#.to_owned();
                done(&mut connection, &Request { method: "PUT", path, body }).await?;
                Self::Dss { connection, session }
            }
            Kind::Etcd => {
                let mut connection = Connection::open(to).await?;
                let grant = post("/v3/lease/grant", r#"{"TTL":"600"}"#.to_owned());
                let answer = done(&mut connection, &grant).await?;
                Self::Etcd { connection, lease: field(&answer, "\"ID\":\"")?.to_owned() }
            }
            Kind::ZooKeeper => Self::ZooKeeper(Session::open(to).await?),
        })
    }

    /// Takes the lock and gives it back.
    pub(crate) async fn pair(&mut self, lock: &str) -> io::Result<()> {
        match self {
            Self::Dss { connection, session } => {
                let body = format!(r#"{{"session":"{session}","wait_ms":600000}}"#);
                let acquire = post(&format!("/v1/locks/{lock}/acquire"), body);
                let answer = done(connection, &acquire).await?;
                let token = field(&answer, "\"fencing_token\":")?;
                let body = format!(r#"{{"session":"{session}","fencing_token":{token}}}"#);
                let release = post(&format!("/v1/locks/{lock}/release"), body);
                done(connection, &release).await.map(drop)
            }
            Self::Etcd { connection, lease } => {
                let name = base64(lock.as_bytes());
                let body = format!(r#"{{"name":"{name}","lease":"{lease}"}}"#);
                let answer = done(connection, &post("/v3/lock/lock", body)).await?;
                let key = field(&answer, "\"key\":\"")?;
                let unlock = post("/v3/lock/unlock", format!(r#"{{"key":"{key}"}}"#));
                done(connection, &unlock).await.map(drop)
            }
            Self::ZooKeeper(session) => session.pair(lock).await,
        }
    }
}

fn post(path: &str, body: String) -> Request {
    Request { method: "POST", path: path.to_owned(), body }
}

async fn done(connection: &mut Connection, request: &Request) -> io::Result<String> {
    let answer = connection.ask(request).await?;
    if answer.status == 200 {
        return Ok(answer.body);
    }
    Err(io::Error::other(format!("{request:?}: {answer:?}")))
}

/// What stands behind `before`, up to whatever ends a value.
fn field<'a>(body: &'a str, before: &str) -> io::Result<&'a str> {
    let value = body.split(before).nth(1).and_then(|rest| rest.split(['"', ',', '}']).next());
    value.ok_or_else(|| io::Error::other(format!("no {before} in {body}")))
}

/// As etcd's gateway wants bytes to be.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut bits = 0_u32;
        for place in 0..3 {
            bits = bits << 8 | chunk.get(place).map_or(0, |byte| u32::from(*byte));
        }
        for digit in 0..4 {
            let wanted = digit <= chunk.len();
            let digit = DIGITS[(bits >> (18 - 6 * digit)) as usize & 63];
            text.push(if wanted { char::from(digit) } else { '=' });
        }
    }
    text
}
