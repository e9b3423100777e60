use std::sync::Mutex;

use dss_mesi::{MemoryTable, memory_conformance};
use proptest::prelude::*;

use super::*;
use crate::cache_group::{Register, RegisterCommand, RegisterReply};
use crate::redis::RedisAddress;
use crate::redis::test_server::RedisServer;

/// How long servers may take to be noticed, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// A cluster's register without a cluster, and the epoch that it passed.
#[derive(Default)]
struct OneRegister(Mutex<(Register, Epoch)>);

#[async_trait]
impl Registry for OneRegister {
    async fn perform(&self, command: RegisterCommand) -> Option<RegisterReply> {
        let (register, passed) = &mut *self.0.lock().unwrap();
        let (reply, used) = register.apply(command);
        *passed = (*passed).max(used.unwrap_or_default());
        Some(reply)
    }
}

impl OneRegister {
    fn passed(&self) -> Epoch {
        self.0.lock().unwrap().1
    }
}

fn nodes(servers: &[RedisServer]) -> RedisNodes {
    let addresses = servers.iter().map(|server| RedisAddress::parse(&server.url()).unwrap());
    RedisNodes::start(addresses.collect())
}

fn start(servers: &[RedisServer], registry: &Arc<OneRegister>) -> RedisMemory {
    let registry: Arc<dyn Registry> = registry.clone();
    RedisMemory::start("test: it", nodes(servers), &registry)
}

/// Waits until the problem of some server is one that `matches`; `None` where all serve.
async fn until(memory: &RedisMemory, matches: impl Fn(Option<&str>) -> bool) {
    let problems = || memory.servers.iter().find_map(|server| server.problem());
    let reached = async {
        while !matches(problems().as_deref()) {
            tokio::time::sleep(POLL).await;
        }
    };
    if tokio::time::timeout(PATIENCE, reached).await.is_err() {
        panic!("the problem is: {:?}", problems());
    }
}

async fn serving(memory: &RedisMemory) {
    until(memory, |problem| problem.is_none()).await;
}

async fn on(servers: &[RedisServer]) -> RedisMemory {
    let memory = start(servers, &Arc::default());
    serving(&memory).await;
    memory
}

fn version(epoch: u64, write: u64) -> Version {
    Version { epoch: Epoch::new(epoch), grant: 1, write }
}

async fn put(memory: &RedisMemory, key: &str, at: Version) -> Result<StoreOutcome, MemoryError> {
    memory.store(at.epoch, &key.to_owned().into(), at, Some(at.etag().into())).await
}

async fn get(memory: &RedisMemory, key: &str) -> Result<Option<Version>, MemoryError> {
    Ok(memory.load(&key.to_owned().into()).await?.map(|stored| stored.version))
}

/// A key that lives on this server.
fn key_on(memory: &RedisMemory, server: usize) -> String {
    let name = memory.nodes.all()[server].name();
    let keys = (0..).map(|number| format!("key-{number}"));
    keys.into_iter().find(|key| memory.server(key.as_bytes()).name() == name).unwrap()
}

async fn command<T: redis::FromRedisValue>(memory: &RedisMemory, words: &str) -> T {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    memory.nodes.all()[0].run(&command).await.unwrap()
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn it_is_a_main_memory_on_one_server_and_on_three() {
    for count in [1, 3] {
        let servers = RedisServer::start_several(count).await;
        memory_conformance(&on(&servers).await).await;
    }
}

#[derive(Debug, Clone)]
enum Step {
    Load(u8),
    Store { writer: u64, key: u8, at: (u64, u64, u64), value: Option<Vec<u8>> },
    Fence(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = prop_oneof![0..4u64, 254..258u64, Just(1 << 32), (u64::MAX - 2)..=u64::MAX];
    let at = (number.clone(), number.clone(), number.clone());
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..3));
    let step = prop_oneof![
        (0..3u8).prop_map(Step::Load),
        (number.clone(), 0..3u8, at, value).prop_map(|(writer, key, at, value)| Step::Store {
            writer,
            key,
            at,
            value
        }),
        (0..6u64).prop_map(Step::Fence),
        Just(Step::Fence(1 << 40)),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Has both do the same, and compares every answer.
async fn compare(memory: &RedisMemory, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut table = MemoryTable::new();
    // The last byte of some keys is not text.
    let key_of = |key: u8| Bytes::from(vec![b'k', 0, 253 + key]);
    for step in steps {
        match step {
            Step::Load(key) => {
                let loaded = memory.load(&key_of(key)).await.unwrap();
                prop_assert_eq!(loaded.as_ref(), table.load(&key_of(key)));
            }
            Step::Store { writer, key, at: (epoch, grant, write), value } => {
                let (writer, key) = (Epoch::new(writer), key_of(key));
                let at = Version { epoch: Epoch::new(epoch), grant, write };
                let value = value.map(Bytes::from);
                let outcome = memory.store(writer, &key, at, value.clone()).await.unwrap();
                prop_assert_eq!(outcome, table.store(writer, key, at, value));
            }
            Step::Fence(epoch) => {
                let epoch = Epoch::new(epoch);
                let stands = match memory.fence(epoch).await {
                    Ok(()) => epoch,
                    Err(MemoryError::Fenced { fence }) => fence,
                    Err(error) => panic!("{error}"),
                };
                prop_assert_eq!(stands, table.fence(epoch));
            }
        }
    }
    Ok(())
}

#[test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
fn it_answers_as_the_table_in_memory_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let servers = runtime.block_on(RedisServer::start_several(2));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let count = std::cell::Cell::new(0);
    let result = runner.run(&steps(), |steps| {
        // Each case has a cluster of its own.
        count.set(count.get() + 1);
        let cluster = format!("cluster {}", count.get());
        runtime.block_on(async {
            let registry: Arc<dyn Registry> = Arc::new(OneRegister::default());
            let memory = RedisMemory::start(&cluster, nodes(&servers), &registry);
            serving(&memory).await;
            compare(&memory, steps).await
        })
    });
    result.unwrap();
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_server_that_is_killed_takes_its_keys_along_and_brings_them_back() {
    let mut servers = RedisServer::start_several(2).await;
    let memory = on(&servers).await;
    memory.fence(Epoch::new(1)).await.unwrap();
    let (lost, kept) = (key_on(&memory, 0), key_on(&memory, 1));
    for key in [&lost, &kept] {
        assert_eq!(put(&memory, key, version(1, 7)).await.unwrap(), StoreOutcome::Stored);
    }

    servers[0].kill().await;
    until(&memory, |problem| problem.is_some()).await;
    let error = get(&memory, &lost).await.unwrap_err().to_string();
    assert!(error.contains(memory.nodes.all()[0].name()), "{error}");
    assert!(put(&memory, &lost, version(1, 8)).await.is_err());
    assert_eq!(get(&memory, &kept).await.unwrap(), Some(version(1, 7)));
    assert_eq!(memory.problem(), None, "the node can still serve");

    servers[0].restart().await;
    serving(&memory).await;
    assert_eq!(get(&memory, &lost).await.unwrap(), Some(version(1, 7)));
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_server_that_was_away_when_the_fence_was_raised_is_fenced_before_it_is_used() {
    let mut servers = RedisServer::start_several(2).await;
    let registry = Arc::default();
    let (deposed, memory) = (start(&servers, &registry), start(&servers, &registry));
    serving(&deposed).await;
    serving(&memory).await;
    let key = key_on(&memory, 0);
    deposed.fence(Epoch::new(1)).await.unwrap();

    servers[0].stop().await;
    until(&memory, |problem| problem.is_some()).await;
    memory.fence(Epoch::new(2)).await.expect("the other server can be fenced");
    servers[0].restart().await;
    serving(&deposed).await;
    // Either it comes too late, or the load of the new epoch sees it.
    let stored = put(&deposed, &key, version(1, 1)).await;
    let seen = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(seen) = get(&memory, &key).await {
                return seen;
            }
        }
    });
    let seen = seen.await.unwrap();
    assert_eq!(seen.is_some(), matches!(stored, Ok(StoreOutcome::Stored)));
    let fenced = StoreOutcome::Fenced { fence: Epoch::new(2) };
    assert_eq!(put(&deposed, &key, version(1, 2)).await.unwrap(), fenced);
    assert_eq!(get(&memory, &key).await.unwrap(), seen);
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_server_that_comes_back_empty_is_refused_until_an_operator_accepts_it() {
    let mut servers = RedisServer::start_several(1).await;
    let registry = Arc::default();
    let memory = start(&servers, &registry);
    serving(&memory).await;
    put(&memory, "k", version(1, 1)).await.unwrap();
    servers[0].stop().await;
    servers[0].restart_empty().await;
    until(&memory, |problem| problem.is_some_and(|it| it.contains("without its data"))).await;
    let error = get(&memory, "k").await.unwrap_err().to_string();
    assert!(error.contains("without its data"), "{error}");
    assert!(put(&memory, "k", version(1, 2)).await.is_err());
    assert!(memory.problem().is_some());
    // A node that starts now knows it from the register.
    let late = start(&servers, &registry);
    until(&late, |problem| problem.is_some_and(|it| it.contains("without its data"))).await;

    let (_, accept) = error.split_once("redis-cli -u ").unwrap();
    let (_, accept) = accept.split_once(' ').unwrap();
    command::<()>(&memory, accept).await;
    serving(&memory).await;
    serving(&late).await;
    assert_eq!(get(&memory, "k").await.unwrap(), None);
    assert_eq!(put(&memory, "k", version(2, 1)).await.unwrap(), StoreOutcome::Stored);
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_server_that_comes_back_older_is_refused() {
    let mut servers = RedisServer::start_several(1).await;
    let memory = on(&servers).await;
    put(&memory, "k", version(1, 1)).await.unwrap();
    servers[0].stop().await;
    until(&memory, |problem| problem.is_some()).await;
    let copy = servers[0].copy_of_data();
    servers[0].restart().await;
    serving(&memory).await;
    put(&memory, "k", version(1, 2)).await.unwrap();

    servers[0].kill().await;
    until(&memory, |problem| problem.is_some()).await;
    servers[0].put_back(copy);
    servers[0].restart().await;
    until(&memory, |problem| problem.is_some_and(|it| it.contains("older data"))).await;
    assert!(get(&memory, "k").await.is_err(), "1 would be stale");
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_new_cluster_takes_over_what_the_former_one_left_above_its_epochs() {
    let servers = RedisServer::start_several(2).await;
    let former = on(&servers).await;
    former.fence(Epoch::new(56)).await.unwrap();
    let key = key_on(&former, 0);
    put(&former, &key, version(57, 3)).await.unwrap();

    let registry = Arc::new(OneRegister::default());
    let memory = start(&servers, &registry);
    serving(&memory).await;
    assert_eq!(registry.passed(), Epoch::new(57), "a writer may be above the fence");
    assert_eq!(get(&memory, &key).await.unwrap(), Some(version(57, 3)));
    memory.fence(Epoch::new(58)).await.unwrap();
    assert_eq!(put(&memory, &key, version(58, 1)).await.unwrap(), StoreOutcome::Stored);

    let error = get(&former, &key).await.unwrap_err().to_string();
    assert!(error.contains("another cluster"), "{error}");
    assert!(put(&former, &key, version(59, 1)).await.is_err());
    assert_eq!(get(&memory, &key).await.unwrap(), Some(version(58, 1)));
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn other_lists_of_servers_are_refused() {
    let servers = RedisServer::start_several(2).await;
    let registry = Arc::default();
    serving(&start(&servers, &registry)).await;
    let fewer = start(&servers[..1], &registry);
    until(&fewer, |problem| problem.is_some_and(|it| it.contains("--redis must name"))).await;
    let another_cluster = start(&servers[..1], &Arc::default());
    let other_list = |problem: Option<&str>| problem.is_some_and(|it| it.contains("another list"));
    until(&another_cluster, other_list).await;
    assert!(get(&fewer, "k").await.is_err() && get(&another_cluster, "k").await.is_err());
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn what_dss_did_not_write_is_an_error_and_no_value() {
    let servers = RedisServer::start_several(1).await;
    let memory = on(&servers).await;
    let prefix = key_prefix("test: it");
    command::<()>(&memory, &format!("SET {prefix}cache:short x")).await;
    command::<()>(&memory, &format!("HSET {prefix}cache:hash a b")).await;
    for key in ["short", "hash"] {
        let error = get(&memory, key).await.unwrap_err();
        assert!(matches!(error, MemoryError::Unavailable { .. }), "{error}");
    }
    command::<()>(&memory, &format!("SET {prefix}memory x")).await;
    until(&memory, |problem| problem.is_some()).await;
    assert!(get(&memory, "k").await.is_err());
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_silent_server_holds_nothing_up_for_long() {
    let servers = RedisServer::start_several(2).await;
    let memory = on(&servers).await;
    servers[0].pause();
    let begun = tokio::time::Instant::now();
    memory.fence(Epoch::new(3)).await.expect("the other server can be fenced");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let key = key_on(&memory, 0);
    assert!(get(&memory, &key).await.is_err());
    servers[0].resume();
    serving(&memory).await;
    let fenced = StoreOutcome::Fenced { fence: Epoch::new(3) };
    assert_eq!(put(&memory, &key, version(2, 1)).await.unwrap(), fenced);
}
