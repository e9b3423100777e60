//! Random commands, applied to the table and to the naive model side by side.

mod entangled;
mod intrigue;
mod pair;

use dss_lock::Mode;
use proptest::prelude::*;

use entangled::{Random, Temper};
use pair::{LOCKS, OWNERS, Pair, SESSIONS, Step};

fn steps(joint: u32) -> impl Strategy<Value = Step> {
    let (owner, lock) = (0..OWNERS, 0..LOCKS);
    let mode = prop_oneof![Just(Mode::Exclusive), Just(Mode::Shared)].boxed();
    let wait = prop_oneof![1 => Just(None), 4 => (0..6_u8).prop_map(Some)].boxed();
    let request = prop_oneof![4 => Just(None), 1 => (0..3_u8).prop_map(Some)].boxed();
    let sessions = prop::sample::subsequence(vec![0, 1, 2, 3], 1..3);
    let locks = prop::array::uniform3((lock.clone(), mode.clone()));
    let acquire_all = (owner.clone(), locks, wait.clone(), request.clone())
        .prop_map(|(owner, locks, wait, request)| Step::AcquireAll { owner, locks, wait, request });
    let counted = prop_oneof![3 => Just(false), 1 => Just(true)];
    let acquire = (owner.clone(), lock.clone(), mode, wait, request, counted).prop_map(
        |(owner, lock, mode, wait, request, counted)| Step::Acquire {
            owner,
            lock,
            mode,
            wait,
            request,
            counted,
        },
    );
    let release = (owner.clone(), lock.clone(), any::<Option<bool>>())
        .prop_map(|(owner, lock, token)| Step::Release { owner, lock, token });
    let downgrade = (owner, lock.clone(), any::<Option<bool>>())
        .prop_map(|(owner, lock, token)| Step::Downgrade { owner, lock, token });
    let delay = prop_oneof![Just(None), (0..5_u8).prop_map(Some)];
    let open = (0..SESSIONS, delay).prop_map(|(session, delay)| Step::Open { session, delay });
    let end = (sessions, any::<bool>(), any::<bool>())
        .prop_map(|(sessions, closed, seen)| Step::End { sessions, closed, seen });
    prop_oneof![
        12 => prop_oneof![12 - joint => acquire, joint => acquire_all],
        5 => release,
        1 => downgrade,
        1 => open,
        1 => (0..SESSIONS).prop_map(|session| Step::Renew { session }),
        2 => (0..6_usize).prop_map(|back| Step::Cancel { back }),
        1 => lock.prop_map(|lock| Step::ForceRelease { lock }),
        1 => end,
        2 => (0..4_u64).prop_map(|millis| Step::Pass { millis }),
        1 => Just(Step::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_table_does_what_the_naive_model_does(steps in prop::collection::vec(steps(0), 1..80)) {
        let mut pair = Pair::default();
        for step in &steps {
            pair.step(step);
        }
    }

    #[test]
    fn requests_for_several_locks_do_too(steps in prop::collection::vec(steps(5), 1..80)) {
        let mut pair = Pair::default();
        for step in &steps {
            pair.step(step);
        }
    }

    #[test]
    fn a_replica_restored_anywhere_ends_in_the_same_state(
        steps in prop::collection::vec(steps(3), 1..60),
        at in any::<prop::sample::Index>(),
    ) {
        let (mut straight, mut restored) = (Pair::default(), Pair::default());
        for (place, step) in steps.iter().filter(|s| !matches!(s, Step::Restore)).enumerate() {
            straight.step(step);
            restored.step(step);
            if place == at.index(steps.len()) {
                restored.step(&Step::Restore);
                restored.index = straight.index;
            }
        }
        prop_assert_eq!(&straight.table, &restored.table);
        prop_assert_eq!(straight.table.snapshot(), restored.table.snapshot());
    }
}

/// `DSS_COMMANDS` random commands, 240,000 where it is not set; or those of the seed `DSS_SEED`.
#[test]
fn deadlocks_are_found_exactly_when_there_is_one() {
    const COMMANDS_PER_SEED: u64 = 60;
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("DSS_SEED");
    let commands_wanted = number("DSS_COMMANDS").unwrap_or(240_000);
    let seeds = seed.map_or(0..commands_wanted / COMMANDS_PER_SEED, |seed| seed..seed + 1);
    let (mut commands, mut deadlocks, mut barges) = (0_u64, 0, 0);
    let (mut put_back, mut bare) = (0, 0);
    for seed in seeds {
        let mut random = Random::of(seed);
        let temper = Temper::any(&mut random);
        let mut pair = Pair::default();
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..COMMANDS_PER_SEED {
                let step = temper.step(&mut random, &pair);
                pair.step(&step);
                commands += 1;
            }
        }));
        if let Err(panic) = run {
            eprintln!("failed with DSS_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
        deadlocks += pair.model.deadlocks;
        barges += pair.model.barges;
        put_back += pair.model.put_back;
        bare += pair.model.bare;
    }
    println!("{commands} commands, {deadlocks} deadlocks, {barges} let past others that wait");
    println!("{put_back} upgrades put back into a deadlock, {bare} of owners with nothing else");
    if seed.is_none() {
        assert!(deadlocks as u64 > commands / 50, "{deadlocks} deadlocks");
        assert!(barges as u64 > commands / 3_000, "{barges} barges");
        assert!(put_back as u64 > commands / 3_000, "{put_back} upgrades put back");
        assert!(bare as u64 > commands / 10_000, "{bare} upgrades of owners with nothing else");
    }
}
