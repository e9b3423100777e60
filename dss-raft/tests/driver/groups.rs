use dss_raft::{Envelope, GroupId, LogId, Message, MessageBody, StartGroupError, Term};

use crate::cluster::{Cluster, GROUP, Sum, command, id};

#[tokio::test(start_paused = true)]
async fn groups_share_a_node_and_nothing_else() {
    let mut cluster = Cluster::start(3).await;
    let mut others = Vec::new();
    for node in [1, 2, 3].map(id) {
        for group in 1..5 {
            let config = cluster.config(node);
            let members = cluster.members.clone();
            let started = cluster.nodes[&node]
                .start_group(GroupId::new(group), config, members, Sum::default())
                .await;
            others.push((group, started.expect("the group is new")));
        }
    }
    cluster.add(1).await;
    cluster.converged(&[1]).await;
    for group in 1..5_u32 {
        let of_group: Vec<_> = others.iter().filter(|(number, _)| *number == group).collect();
        let reply = loop {
            let mut reply = None;
            for (_, handle) in &of_group {
                if let Ok(applied) = handle.propose(command(u64::from(group) * 10)).await {
                    reply = Some(applied.reply);
                    break;
                }
            }
            if let Some(reply) = reply {
                break reply;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        assert_eq!(reply, u64::from(group) * 10);
        for (_, handle) in of_group {
            assert_eq!(handle.read(|sum| sum.seen.clone()).await, Ok(vec![reply]));
        }
    }
    cluster.converged(&[1]).await;
}

#[tokio::test(start_paused = true)]
async fn a_group_runs_once_per_node() {
    let mut cluster = Cluster::start(1).await;
    let config = cluster.config(id(1));
    let again = cluster.nodes[&id(1)]
        .start_group(GROUP, config, cluster.members.clone(), Sum::default())
        .await;
    assert!(matches!(again, Err(StartGroupError::AlreadyStarted { group: GROUP })));
    assert_eq!(cluster.add(1).await, 1);
}

#[tokio::test(start_paused = true)]
async fn messages_for_groups_that_do_not_run_here_are_dropped() {
    let cluster = Cluster::start(1).await;
    let body = MessageBody::VoteRequest { last: LogId::ZERO, by_transfer: false };
    for group in [1, u32::MAX] {
        let message = Message { term: Term::new(9), log: LogIdentity::UNKNOWN, body: body.clone() };
        cluster.nodes[&id(1)].deliver(id(2), Envelope { group: GroupId::new(group), message });
    }
    assert_eq!(cluster.add(1).await, 1);
}
