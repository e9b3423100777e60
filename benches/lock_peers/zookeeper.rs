//! ZooKeeper: its servers, and as much of its protocol as the lock recipe takes.
//!
//! Messages are big-endian numbers and byte strings with a length before them, in packets with a
//! length before those. The recipe is that of its documentation: a child of the lock's node that
//! is ephemeral and numbered; whoever has the lowest number has the lock, the others each watch the
//! one before them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where Debian's package `zookeeper` has it.
pub(crate) const JAR: &str = "/usr/share/java/zookeeper.jar";

/// How long a session lives without a sign of life: the longest that a server grants. No workload
/// takes as long.
const SESSION_MS: i32 = 40_000;

const CREATE: i32 = 1;
const DELETE: i32 = 2;
const EXISTS: i32 = 3;
const GET_CHILDREN: i32 = 8;

/// Of a created node.
const PERSISTENT: i32 = 0;
const EPHEMERAL_AND_NUMBERED: i32 = 3;

const OK: i32 = 0;
const NO_NODE: i32 = -101;
const NODE_EXISTS: i32 = -110;

/// In place of the number of a request: something that was watched has happened.
const WATCH: i32 = -1;

/// A server of three, to be run by `java`: with its defaults, which sync every write.
pub(crate) fn node(
    command: &mut Command,
    folder: &Path,
    node: usize,
    clients: &[SocketAddr],
    peers: &[SocketAddr],
) -> io::Result<()> {
    use std::fmt::Write as _;
    let data = folder.join(format!("z{node}"));
    std::fs::create_dir_all(&data)?;
    std::fs::write(data.join("myid"), node.to_string())?;
    let mut config = format!(
        "tickTime=2000\ninitLimit=10\nsyncLimit=5\nmaxClientCnxns=0\nadmin.enableServer=false\n\
         dataDir={}\nclientPortAddress=127.0.0.1\nclientPort={}\n",
        data.display(),
        clients[node].port()
    );
    let (quorum, election) = peers.split_at(3);
    for (number, (quorum, election)) in quorum.iter().zip(election).enumerate() {
        writeln!(config, "server.{number}=127.0.0.1:{}:{}", quorum.port(), election.port())
            .map_err(io::Error::other)?;
    }
    let file = data.join("zoo.cfg");
    std::fs::write(&file, config)?;
    command.args(["-cp", JAR, "org.apache.zookeeper.server.quorum.QuorumPeerMain"]).arg(file);
    Ok(())
}

/// A session with one request at a time.
pub(crate) struct Session {
    stream: TcpStream,
    requests: i32,
    packet: Vec<u8>,
}

impl Session {
    pub(crate) async fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let mut session = Self { stream, requests: 0, packet: Vec::new() };
        let greeting = Packet::default().int(0).long(0).int(SESSION_MS).long(0).bytes(&[0; 16]);
        session.send(greeting).await?;
        session.receive().await?;
        session.create("/locks", PERSISTENT).await?;
        Ok(session)
    }

    /// Takes the lock and gives it back.
    pub(crate) async fn pair(&mut self, lock: &str) -> io::Result<()> {
        let folder = format!("/locks/{lock}");
        let prefix = format!("{folder}/n-");
        let mine = match self.create(&prefix, EPHEMERAL_AND_NUMBERED).await? {
            Some(path) => path,
            None => {
                self.create(&folder, PERSISTENT).await?;
                let created = self.create(&prefix, EPHEMERAL_AND_NUMBERED).await?;
                created.ok_or_else(|| io::Error::other("a node that cannot be created"))?
            }
        };
        while let Some(before) = self.node_before(&folder, &mine).await? {
            let exists = Packet::default().text(&format!("{folder}/{before}")).byte(1);
            if self.ask(EXISTS, exists, &[OK, NO_NODE]).await? == OK {
                self.watched().await?;
            }
        }
        self.ask(DELETE, Packet::default().text(&mine).int(-1), &[OK]).await.map(drop)
    }

    /// The node that has the number before mine, where there is one.
    async fn node_before(&mut self, folder: &str, mine: &str) -> io::Result<Option<String>> {
        self.ask(GET_CHILDREN, Packet::default().text(folder).byte(0), &[OK]).await?;
        let mut answer = Answer(&self.packet[16..]);
        let count = answer.int()?;
        let mine = &mine[folder.len() + 1..];
        let mut before = None;
        for _ in 0..count {
            let child = answer.text()?;
            if child < mine && before.is_none_or(|before| before < child) {
                before = Some(child);
            }
        }
        Ok(before.map(str::to_owned))
    }

    /// Creates a node: its path, or nothing where that it is to be in is not there.
    async fn create(&mut self, path: &str, flags: i32) -> io::Result<Option<String>> {
        // Open to the world.
        let rights = |packet: Packet| packet.int(1).int(31).text("world").text("anyone");
        let create = rights(Packet::default().text(path).bytes(&[])).int(flags);
        match self.ask(CREATE, create, &[OK, NO_NODE, NODE_EXISTS]).await? {
            OK => Answer(&self.packet[16..]).text().map(|path| Some(path.to_owned())),
            _ => Ok(None),
        }
    }

    /// Asks, and says how it ended; what comes with that is in the packet, behind its head.
    async fn ask(&mut self, kind: i32, body: Packet, expected: &[i32]) -> io::Result<i32> {
        self.requests += 1;
        let head = Packet::default().int(self.requests).int(kind);
        self.send(Packet([head.0, body.0].concat())).await?;
        loop {
            self.receive().await?;
            let mut answer = Answer(&self.packet);
            let number = answer.int()?;
            if number == WATCH {
                // Of a node that has gone between two looks.
                continue;
            }
            answer.skip(8)?;
            let ended = answer.int()?;
            if number != self.requests || !expected.contains(&ended) {
                return Err(io::Error::other(format!("request {kind} ended as {ended}")));
            }
            return Ok(ended);
        }
    }

    /// Waits until what is watched has happened.
    async fn watched(&mut self) -> io::Result<()> {
        loop {
            self.receive().await?;
            if Answer(&self.packet).int()? == WATCH {
                return Ok(());
            }
        }
    }

    async fn send(&mut self, packet: Packet) -> io::Result<()> {
        let whole = Packet::default().bytes(&packet.0);
        self.stream.write_all(&whole.0).await
    }

    async fn receive(&mut self) -> io::Result<()> {
        let length = self.stream.read_i32().await?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.packet.resize(length, 0);
        self.stream.read_exact(&mut self.packet).await.map(drop)
    }
}

/// A message that is being written.
#[derive(Default)]
struct Packet(Vec<u8>);

impl Packet {
    fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn int(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn long(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn bytes(self, value: &[u8]) -> Self {
        let length = i32::try_from(value.len()).expect("messages of this program are short");
        let mut packet = self.int(length);
        packet.0.extend(value);
        packet
    }

    fn text(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }
}

/// A message that is being read.
struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    fn skip(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let (skipped, rest) = self.0.split_at_checked(length).ok_or(io::ErrorKind::InvalidData)?;
        self.0 = rest;
        Ok(skipped)
    }

    fn int(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.skip(4)?.try_into().expect("of four bytes")))
    }

    fn text(&mut self) -> io::Result<&'a str> {
        let length = usize::try_from(self.int()?).map_err(io::Error::other)?;
        std::str::from_utf8(self.skip(length)?).map_err(io::Error::other)
    }
}
