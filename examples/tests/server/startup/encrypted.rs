//! A node whose certificates nobody would believe, or whose keys others know, does not start.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{REFUSAL_MAX, Site};
use crate::certificates::{Ca, For, Signed, Valid, self_signed};
use crate::client::Client;
use crate::process::{issue, node_arguments, program, signal};

impl Site {
    fn certs(&self) -> PathBuf {
        self.folder.path().join("certs")
    }

    /// Starts the node, waits until it answers at this address, does more with it, and stops it.
    async fn serves(&self, client: &Client, url: &str, more: impl AsyncFnOnce(String)) {
        let mut child = Command::new(program())
            .args(node_arguments(&self.config(), "n1"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let url = format!("{url}:{}/healthz", self.client);
        let answered = async {
            while !client.get(&url).await.is_ok_and(|answer| answer.status == 200) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let answered = tokio::time::timeout(REFUSAL_MAX, answered).await;
        if answered.is_ok() {
            more(url.clone()).await;
        }
        signal(&child, "TERM");
        let status = child.wait().expect("a child can be waited for");
        assert!(answered.is_ok() && status.success(), "{status}");
    }
}

#[tokio::test]
async fn certificates_and_keys_that_cannot_be_used_are_refused_in_one_line() {
    let site = Site::new();
    let certs = site.certs();
    site.configure("test", "n1", &format!("[tls]\nfolder = '{}'", certs.display()));
    site.is_refused("n1", &["server.pem", "cannot be read"]);
    issue(&certs, &["n1", "n2"]);
    let own = certs.join("n1");
    let (server, peer) = (Signed::read(&own, "server"), Signed::read(&own, "peer"));
    let (clients, peers) = (Ca::of(&certs, "clients"), Ca::of(&certs, "peers"));

    for (name, good) in [("server", &server), ("peer", &peer)] {
        let (pem, key) = (format!("{name}.pem"), format!("{name}.key"));
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(own.join(&key), Permissions::from_mode(mode)).unwrap();
            site.is_refused("n1", &[&key, "chmod 600", &format!("{mode:o}")]);
        }
        let broken = |certificate: &str, key: &str| {
            Signed { certificate: certificate.to_owned(), key: key.to_owned() }.write(&own, name);
        };
        broken(&good.certificate, &Signed::read(&certs.join("n2"), name).key);
        site.is_refused("n1", &[&key, "not the key of the certificate"]);
        broken(&good.certificate, "nonsense");
        site.is_refused("n1", &[&key, "no private key"]);
        broken("nonsense", &good.key);
        site.is_refused("n1", &[&pem, "no certificate"]);
        broken("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &good.key);
        site.is_refused("n1", &[&pem]);
        fs::remove_file(own.join(&key)).unwrap();
        site.is_refused("n1", &[&key, "cannot be read"]);
        for (valid, problem) in [(Valid::NoLonger, "has expired"), (Valid::NotYet, "not valid yet")]
        {
            let authority = if name == "peer" { &peers } else { &clients };
            authority.sign("n1", valid, For::Both).write(&own, name);
            site.is_refused("n1", &[&pem, problem]);
        }
        good.write(&own, name);
    }
    for (wrong, problem) in [
        (Signed::read(&certs.join("n2"), "peer"), "not the certificate of node \"n1\""),
        (Ca::foreign("x").sign("n1", Valid::Always, For::Both), "peer-ca.pem"),
        (clients.sign("n1", Valid::Always, For::Both), "peer-ca.pem"),
        (self_signed("n1"), "peer-ca.pem"),
        (peers.sign("n1", Valid::Always, For::Servers), "peer.pem"),
        (peers.sign("n1", Valid::Always, For::Clients), "peer.pem"),
    ] {
        wrong.write(&own, "peer");
        site.is_refused("n1", &["peer.pem", problem]);
    }
    peer.write(&own, "peer");
    site.configure("test", "10.0.0.1", &format!("[tls]\nfolder = '{}'", certs.display()));
    site.is_refused("10.0.0.1", &["cluster.toml", "\"10.0.0.1\"", "certificate"]);

    // All is as it was, and can be used.
    site.configure("test", "n1", &format!("[tls]\nfolder = '{}'", certs.display()));
    let client = Client::trusting(&certs.join("ca/clients.pem"));
    site.serves(&client, "https://127.0.0.1", async |_| {}).await;
}

#[tokio::test]
async fn without_encryption_only_this_machine_is_listened_to_unless_asked_for() {
    let site = Site::new();
    let expose = |field: &str, more: &str| {
        site.configure("test", "n1", more);
        let text = fs::read_to_string(site.config()).unwrap();
        let text = text.replace(&format!("{field} = '127.0.0.1"), &format!("{field} = '0.0.0.0"));
        fs::write(site.config(), text).unwrap();
    };
    for field in ["client", "peer"] {
        expose(field, "");
        site.is_refused(
            "n1",
            &["cluster.toml", &format!("nodes[0].{field}"), "tls.folder", "insecure"],
        );
    }
    expose("client", "insecure = true");
    site.serves(&Client::new(), "http://127.0.0.1", async |_| {}).await;
}

#[tokio::test]
async fn clients_that_are_asked_for_certificates_have_to_show_one_of_their_authority() {
    let site = Site::new();
    let certs = site.certs();
    site.configure("test", "n1", "[tls]\nfolder = ''\n");
    site.is_refused("n1", &["tls.folder"]);
    let tls = format!("[tls]\nfolder = '{}'\nclient_certificates = true", certs.display());
    site.configure("test", "n1", &tls);
    issue(&certs, &["n1"]);
    let made = Command::new(program())
        .args(["certs", "--client", "ci", "--out"])
        .arg(&certs)
        .output()
        .expect("the program starts");
    assert!(made.status.success(), "{made:?}");
    let file = certs.join("clients/ci.pem");
    let text = fs::read_to_string(&file).unwrap();
    let own = Signed { certificate: text.clone(), key: text };
    let trust = certs.join("ca/clients.pem");
    let (clients, peers) = (Ca::of(&certs, "clients"), Ca::of(&certs, "peers"));

    let client = Client::showing(&trust, &own);
    let others = async |url: String| {
        assert!(Client::trusting(&trust).get(&url).await.is_err(), "without one");
        for (what, shows) in [
            ("a node's for clients", Signed::read(&certs.join("n1"), "server")),
            ("a node's for nodes", Signed::read(&certs.join("n1"), "peer")),
            ("of the other authority", peers.sign("ci", Valid::Always, For::Clients)),
            ("of another", Ca::foreign("clients").sign("ci", Valid::Always, For::Clients)),
            ("expired", clients.sign("ci", Valid::NoLonger, For::Clients)),
        ] {
            assert!(Client::showing(&trust, &shows).get(&url).await.is_err(), "{what}");
        }
        let health = |more: &[&std::path::Path]| {
            let url = url.trim_end_matches("/healthz");
            let mut command = tokio::process::Command::new(program());
            command.args(["health", "--target", url]).arg("--cacert").arg(&trust).args(more);
            async move { command.output().await.expect("the program starts").status }
        };
        assert!(health(&["--cert".as_ref(), &file]).await.success());
        assert_eq!(health(&[]).await.code(), Some(1));
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(
            health(&["--cert".as_ref(), &file]).await.code(),
            Some(2),
            "others know the key"
        );
    };
    site.serves(&client, "https://127.0.0.1", others).await;
    fs::remove_file(certs.join("n1/client-ca.pem")).unwrap();
    site.is_refused("n1", &["client-ca.pem", "cannot be read"]);
    site.configure("test", "n1", "[tls]\nfolder = 'x'\n");
    let config = site.config();
    let check = |more: &[&str]| {
        let mut command = Command::new(program());
        command.args(["config", "check", "--id", "n1", "--config"]).arg(&config).args(more);
        super::refusal(&mut command)
    };
    assert!(check(&[]).contains("server.pem"), "the check looks at them too");
    site.configure("test", "n1", "");
    let line = check(&["--set", "tls.client_certificates=true"]);
    assert!(line.contains("tls.folder"), "{line}");
}
