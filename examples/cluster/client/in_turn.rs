//! One question to several nodes, one after the other.

use std::time::Duration;

use axum::http::Method;
use bytes::Bytes;

use super::{Answer, Body, Client, NOT_CONNECTED, Refused, Target};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    /// A node has refused it.
    #[error("{code}: {detail}")]
    Refused { code: String, detail: String },
    /// Nobody has answered; this is why the last one that was asked has not.
    #[error("no node answered: {0}")]
    Silent(String),
}

/// Codes of refusals by which a node says that it has surely done nothing, for a reason of its own.
const NOT_HERE: [&str; 3] = ["no_leader", "unavailable", "overloaded"];
/// The code by which it says that it may have done something.
const IN_DOUBT: &str = "outcome_unknown";

impl Client {
    /// What the first of the nodes says that can answer, each within as long as `limit`.
    ///
    /// The next one is asked where one has surely done nothing, since it is not there or cannot at
    /// the moment; and where the question changes nothing, also where one breaks off or takes too
    /// long. What is refused for any other reason would be refused by all of them.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    pub(crate) async fn ask_in_turn(
        &self,
        limit: Duration,
        targets: &[Target],
        (method, path): (Method, &str),
        body: Body,
    ) -> Result<Bytes, Unanswered> {
        let mut last = Unanswered::Silent("nobody was asked".to_owned());
        for target in targets {
            let asked = self.ask_within(limit, target, method.clone(), path, body.clone());
            let may_ask_another;
            (may_ask_another, last) = match asked.await {
                Answer::Done(answer) => return Ok(answer),
                Answer::Refused(Refused { code, detail, .. }) => {
                    let is_in_doubt = code == IN_DOUBT && method.is_safe();
                    let may = is_in_doubt || NOT_HERE.contains(&code.as_str());
                    (may, Unanswered::Refused { code, detail })
                }
                Answer::None(reason) => {
                    (reason == NOT_CONNECTED || method.is_safe(), Unanswered::Silent(reason))
                }
            };
            if !may_ask_another {
                break;
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;
    use axum::routing::any;
    use tokio::net::TcpListener;

    use super::*;
    use crate::client::Encryption;
    use crate::http::{Code, Problem};

    /// A node that answers everything so, and where it is.
    async fn node(refuses: Option<Code>) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let answer = move || async move {
            match refuses {
                Some(code) => Problem::new(code, "not here").into_response(),
                None => (StatusCode::OK, "done").into_response(),
            }
        };
        let router = Router::new().fallback(any(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        target
    }

    /// A node that takes a request and goes away.
    async fn breaks_off() -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                use tokio::io::AsyncReadExt as _;
                let _ = tcp.read(&mut [0; 512]).await;
            }
        });
        target
    }

    #[tokio::test]
    async fn another_node_is_asked_only_where_nothing_can_have_been_done() {
        let client = Client::new(&Encryption::default());
        let good = node(None).await;
        let nowhere: Target = "http://127.0.0.1:1".parse().unwrap();
        let ask = async |first: &Target, method: Method| {
            let targets = [first.clone(), good.clone()];
            let limit = Duration::from_secs(20);
            let answer = client.ask_in_turn(limit, &targets, (method, "/x"), Body::None).await;
            answer.map_err(|unanswered| unanswered.to_string())
        };
        for method in [Method::GET, Method::POST] {
            assert_eq!(ask(&nowhere, method.clone()).await.unwrap(), "done");
            for code in [Code::NoLeader, Code::Unavailable, Code::Overloaded] {
                let first = node(Some(code)).await;
                assert_eq!(ask(&first, method.clone()).await.unwrap(), "done", "{code:?}");
            }
            let first = node(Some(Code::Forbidden)).await;
            assert_eq!(ask(&first, method).await.unwrap_err(), "forbidden: not here");
        }
        let in_doubt = node(Some(Code::OutcomeUnknown)).await;
        assert_eq!(ask(&in_doubt, Method::GET).await.unwrap(), "done");
        assert_eq!(ask(&in_doubt, Method::POST).await.unwrap_err(), "outcome_unknown: not here");
        let gone = breaks_off().await;
        assert_eq!(ask(&gone, Method::GET).await.unwrap(), "done");
        assert_eq!(ask(&gone, Method::POST).await.unwrap_err(), "no node answered: broken_off");
        let limit = Duration::from_secs(20);
        let nobody = client.ask_in_turn(limit, &[nowhere], (Method::GET, "/x"), Body::None).await;
        assert_eq!(nobody.unwrap_err().to_string(), "no node answered: not_connected");
    }
}
