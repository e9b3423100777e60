use super::*;
use crate::redis::test_server::RedisServer;

fn node_of(server: &RedisServer) -> Arc<RedisNode> {
    RedisNode::start(RedisAddress::parse(&server.url()).unwrap())
}

async fn is_up(node: &RedisNode, up: bool) {
    let mut standing = node.standing();
    let changed = standing.wait_for(|standing| standing.is_ok() == up);
    tokio::time::timeout(Duration::from_secs(20), changed).await.expect("in time").unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_has_surely_not_executed_anything() {
    let port = dss_examples::free_port();
    let url = format!("redis://:secret@127.0.0.1:{port}");
    let node = RedisNode::start(RedisAddress::parse(&url).unwrap());
    let failure = node.run::<()>(&redis::cmd("PING")).await.unwrap_err();
    assert!(matches!(failure, RedisFailure::NotExecuted { .. }), "{failure:?}");
    let text = failure.to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}")) && !text.contains("secret"), "{text}");
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_server_is_used_again_once_it_is_back_and_has_what_it_acknowledged() {
    let mut server = RedisServer::start().await;
    let node = node_of(&server);
    is_up(&node, true).await;
    node.run::<()>(redis::cmd("SET").arg("k").arg(&b"\0\xff"[..])).await.unwrap();

    server.kill().await;
    is_up(&node, false).await;
    let failure = node.run::<()>(&redis::cmd("PING")).await.unwrap_err();
    assert!(matches!(failure, RedisFailure::NotExecuted { .. }), "{failure:?}");

    server.restart().await;
    is_up(&node, true).await;
    let kept: Vec<u8> = node.run(redis::cmd("GET").arg("k")).await.unwrap();
    assert_eq!(kept, b"\0\xff");

    server.stop().await;
    is_up(&node, false).await;
    server.restart_empty().await;
    is_up(&node, true).await;
    let kept: Option<Vec<u8>> = node.run(redis::cmd("GET").arg("k")).await.unwrap();
    assert_eq!(kept, None);
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_silent_server_leaves_the_outcome_unknown_and_is_given_up_in_time() {
    let server = RedisServer::start().await;
    let node = node_of(&server);
    is_up(&node, true).await;
    server.pause();
    let begun = Instant::now();
    let failure = node.run::<i64>(redis::cmd("INCR").arg("n")).await.unwrap_err();
    assert!(matches!(failure, RedisFailure::OutcomeUnknown { .. }), "{failure:?}");
    assert!(begun.elapsed() < 3 * RESPONSE_LIMIT);
    is_up(&node, false).await;
    server.resume();
    is_up(&node, true).await;
    let count: i64 = node.run(redis::cmd("INCR").arg("n")).await.unwrap();
    assert_eq!(count, 2, "what was sent before is executed in the end");
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_refusal_is_told_and_leaves_the_connection_alone() {
    let server = RedisServer::start().await;
    let node = node_of(&server);
    is_up(&node, true).await;
    node.run::<()>(redis::cmd("SET").arg("k").arg("text")).await.unwrap();
    let failure = node.run::<i64>(redis::cmd("INCR").arg("k")).await.unwrap_err();
    assert!(matches!(failure, RedisFailure::Refused { .. }), "{failure:?}");
    let script = redis::Script::new("return redis.error_reply('ODD for a reason')");
    let failure = node.script::<()>(&script.prepare_invoke()).await.unwrap_err();
    assert!(matches!(failure, RedisFailure::Refused { .. }), "{failure:?}");
    assert_eq!(node.connection.lock().await.number, 1);
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_script_is_learned_again_after_a_restart() {
    let mut server = RedisServer::start().await;
    let node = node_of(&server);
    let script = redis::Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    is_up(&node, true).await;
    assert_eq!(node.script::<i64>(script.key("n").arg(2)).await.unwrap(), 2);
    server.stop().await;
    is_up(&node, false).await;
    server.restart().await;
    is_up(&node, true).await;
    assert_eq!(node.script::<i64>(script.key("n").arg(3)).await.unwrap(), 5);
}
