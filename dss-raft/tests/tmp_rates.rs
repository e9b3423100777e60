use dss_raft::testing::*;
#[test]
fn rates() {
    for bug in [
        PlantedBug::VoteWithoutComparingLogs,
        PlantedBug::AcknowledgeBeforeDurable,
        PlantedBug::CommitOlderTermByCounting,
    ] {
        let (mut safety, mut live) = (0, 0);
        let mut first = None;
        let t = std::time::Instant::now();
        for seed in 0..2000 {
            if let Err(f) =
                simulate(Options::swarm(seed).with_bug(bug), HashChainWorkload::default())
            {
                if matches!(f.violation, Violation::NotLive { .. }) {
                    live += 1
                } else {
                    safety += 1;
                    if first.is_none() {
                        first = Some(f);
                    }
                }
            }
        }
        println!("{bug:?}: safety {safety} live {live} {:?} {:?}", first, t.elapsed());
    }
}
