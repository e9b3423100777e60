//! Who is a node, and who is not.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dss_examples::free_port;
use rustls::SupportedProtocolVersion;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{authority, figure, serves};
use crate::certificates::{Ca, For, Signed, Valid, acceptor, dialer, self_signed};
use crate::process::{Cluster, issue, node_arguments, program};
use crate::strangers::{STEADY, hello, leadership};

const PATIENCE: Duration = Duration::from_secs(60);

/// What comes of saying hello on a peer port.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Welcome,
    /// The node says why not.
    Refused(String),
    /// The connection ends, for this reason.
    Ended(String),
}

/// Says `hello` and reads the answer.
async fn greet(mut stream: impl AsyncRead + AsyncWrite + Unpin, hello: &[u8]) -> Outcome {
    let exchange = async {
        stream.write_all(hello).await?;
        stream.flush().await?;
        let length = stream.read_u32_le().await?;
        let mut frame = vec![0; length as usize];
        stream.read_exact(&mut frame).await?;
        Ok::<_, std::io::Error>(frame)
    };
    match timeout(PATIENCE, exchange).await.expect("the node answers or closes") {
        Ok(frame) if frame[0] == 2 => Outcome::Welcome,
        Ok(frame) => Outcome::Refused(String::from_utf8_lossy(&frame[1..]).into_owned()),
        Err(error) => Outcome::Ended(error.to_string()),
    }
}

/// Connects to the peer port of `n1` with this certificate, and says hello.
pub(super) async fn try_to_be(
    cluster: &Cluster,
    version: &'static SupportedProtocolVersion,
    shows: Option<&Signed>,
    hello: &[u8],
) -> Outcome {
    let config = dialer(&authority(&cluster.certificates(), "peers"), version, shows);
    let tcp = TcpStream::connect(cluster.peer(0)).await.expect("the port is open");
    let name = ServerName::try_from("n1").expect("a name");
    match TlsConnector::from(Arc::new(config)).connect(name, tcp).await {
        Ok(stream) => greet(stream, hello).await,
        Err(error) => Outcome::Ended(error.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_peer_port_lets_in_nodes_with_certificates_of_their_own_and_nobody_else() {
    let cluster = Cluster::start_encrypted(STEADY).await;
    let before = leadership(&cluster).await;
    let certs = cluster.certificates();
    let (peers, clients) = (Ca::of(&certs, "peers"), Ca::of(&certs, "clients"));
    let own = |node: &str| Signed::read(&certs.join(node), "peer");
    let n2 = hello("test", "n2", "n1");

    // The control: all of this is how a node connects.
    let outcome = try_to_be(&cluster, &TLS13, Some(&own("n2")), &n2).await;
    assert_eq!(outcome, Outcome::Welcome, "{}", cluster.logs());
    let signed = peers.sign("n2", Valid::Always, For::Both);
    assert_eq!(try_to_be(&cluster, &TLS13, Some(&signed), &n2).await, Outcome::Welcome);

    for (what, shows, alert) in [
        ("no certificate", None, "CertificateRequired"),
        (
            "an authority of the same name",
            Some(Ca::foreign("peers").sign("n2", Valid::Always, For::Both)),
            "",
        ),
        (
            "another authority",
            Some(Ca::foreign("x").sign("n2", Valid::Always, For::Both)),
            "UnknownCA",
        ),
        ("the clients' authority", Some(clients.sign("n2", Valid::Always, For::Both)), "UnknownCA"),
        ("its own signature", Some(self_signed("n2")), "UnknownCA"),
        ("expired", Some(peers.sign("n2", Valid::NoLonger, For::Both)), "CertificateExpired"),
        ("not yet valid", Some(peers.sign("n2", Valid::NotYet, For::Both)), ""),
        ("for servers alone", Some(peers.sign("n2", Valid::Always, For::Servers)), ""),
    ] {
        match try_to_be(&cluster, &TLS13, shows.as_ref(), &n2).await {
            Outcome::Ended(reason) => {
                println!("{what}: {reason}");
                assert!(reason.contains("alert") && reason.contains(alert), "{what}: {reason}");
            }
            outcome => panic!("{what}: {outcome:?}"),
        }
    }
    let outcome = try_to_be(&cluster, &TLS12, Some(&own("n2")), &n2).await;
    assert!(
        matches!(&outcome, Outcome::Ended(reason) if reason.contains("ProtocolVersion")),
        "{outcome:?}"
    );
    let tcp = TcpStream::connect(cluster.peer(0)).await.unwrap();
    assert!(matches!(greet(tcp, &n2).await, Outcome::Ended(_) | Outcome::Refused(_)));
    names_that_are_not_their_own(&cluster).await;

    // All of them are counted, and nothing else has come of them.
    let refused = figure(&cluster, 0, "dss_peer_refused_total").await;
    assert!(refused >= 16, "{refused} of them were counted");
    serves(&cluster, "after").await;
    assert_eq!(leadership(&cluster).await, before, "{}", cluster.logs());
}

/// Certificates that are good, and not those of who says hello.
async fn names_that_are_not_their_own(cluster: &Cluster) {
    let certs = cluster.certificates();
    let peers = Ca::of(&certs, "peers");
    let own = |node: &str| Signed::read(&certs.join(node), "peer");
    let n2 = hello("test", "n2", "n1");
    let not_its = "the certificate is not that of the node";
    for (what, shows, hello, reason) in [
        ("another node", own("n3"), n2.clone(), not_its),
        (
            "a name that is no node's",
            peers.sign("n9", Valid::Always, For::Both),
            n2.clone(),
            not_its,
        ),
        ("a longer name", peers.sign("n2.n9", Valid::Always, For::Both), n2.clone(), not_its),
        ("any name", peers.sign("*.n9", Valid::Always, For::Both), n2.clone(), not_its),
        (
            "a stranger",
            peers.sign("n9", Valid::Always, For::Both),
            hello("test", "n9", "n1"),
            "configuration",
        ),
        ("the node itself", own("n1"), hello("test", "n1", "n1"), "configuration"),
        ("another cluster", own("n2"), hello("other", "n2", "n1"), "another cluster"),
    ] {
        match try_to_be(cluster, &TLS13, Some(&shows), &hello).await {
            Outcome::Refused(said) => assert!(said.contains(reason), "{what}: {said}"),
            outcome => panic!("{what}: {outcome:?}"),
        }
    }
}

/// Who answers where `n1` looks for `n2`: whether `n1` tells it anything.
async fn is_told(listener: &TcpListener, config: rustls::ServerConfig) -> Result<Vec<u8>, String> {
    let accept = async {
        let (tcp, _) = listener.accept().await.expect("a connection");
        let mut stream = TlsAcceptor::from(Arc::new(config))
            .accept(tcp)
            .await
            .map_err(|error| error.to_string())?;
        let mut begin = vec![0; 13];
        stream.read_exact(&mut begin).await.map_err(|error| error.to_string())?;
        Ok(begin)
    };
    timeout(PATIENCE, accept).await.expect("n1 tries again and again")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_nothing_to_whoever_cannot_prove_to_be_the_node_that_it_dialed() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    issue(&certs, &["n1", "n2", "n3"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut node = start_n1(folder.path(), &certs, &listener.local_addr().unwrap().to_string());

    let trust = authority(&certs, "peers");
    let (peers, clients) = (Ca::of(&certs, "peers"), Ca::of(&certs, "clients"));
    let right = || peers.sign("n2", Valid::Always, For::Both);
    let told = is_told(&listener, acceptor(&trust, &TLS13, &right())).await;
    assert_eq!(&told.expect("n1 says hello")[5..], b"dss-peer");
    for (what, shows, version) in [
        ("another node", Signed::read(&certs.join("n3"), "peer"), &TLS13),
        ("a stranger", peers.sign("n9", Valid::Always, For::Both), &TLS13),
        ("expired", peers.sign("n2", Valid::NoLonger, For::Both), &TLS13),
        ("for clients alone", peers.sign("n2", Valid::Always, For::Clients), &TLS13),
        ("the clients' authority", clients.sign("n2", Valid::Always, For::Both), &TLS13),
        ("another authority", Ca::foreign("peers").sign("n2", Valid::Always, For::Both), &TLS13),
        ("an earlier version", right(), &TLS12),
    ] {
        let told = is_told(&listener, acceptor(&trust, version, &shows)).await;
        println!("{what}: {told:?}");
        assert!(told.is_err(), "{what}");
    }
    let told = is_told(&listener, acceptor(&trust, &TLS13, &right())).await;
    assert!(told.is_ok(), "it still wants to: {told:?}");
    node.kill().unwrap();
    node.wait().unwrap();
}

/// One node of three, of which the second is at `n2`.
fn start_n1(folder: &Path, certs: &Path, n2: &str) -> std::process::Child {
    let mut text = format!("cluster = 'test'\ndata_dir = '{}'\n", folder.join("data").display());
    for (id, peer) in [("n1", None), ("n2", Some(n2)), ("n3", None)] {
        let (client, other) = (free_port(), format!("127.0.0.1:{}", free_port()));
        let peer = peer.unwrap_or(&other);
        text +=
            &format!("[[nodes]]\nid = '{id}'\nclient = '127.0.0.1:{client}'\npeer = '{peer}'\n");
    }
    text += &format!("[tls]\nfolder = '{}'\n", certs.display());
    let config = folder.join("cluster.toml");
    std::fs::write(&config, text).expect("a writable folder");
    Command::new(program())
        .args(node_arguments(&config, "n1"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts")
}
