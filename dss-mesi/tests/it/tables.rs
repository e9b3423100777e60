//! What the cache's replicated tables are restored from is decoded or refused.

use bytes::Bytes;
use dss_mesi::{Epoch, Incarnation, Member, MemoryTable, NodeId, Version, ViewCommand, ViewTable};
use proptest::prelude::*;

/// Decodes as all that such bytes may be given for, as the fuzz target does; whether any of it is
/// accepted. What is accepted must be as good as what has grown by itself.
fn is_accepted(input: &[u8]) -> bool {
    let memory = MemoryTable::restore(input);
    if let Ok(table) = &memory {
        assert_eq!(MemoryTable::restore(&table.snapshot()).as_ref(), Ok(table));
    }
    let views = ViewTable::restore(input);
    if let Ok(table) = &views {
        let again = ViewTable::restore(&table.snapshot()).unwrap();
        assert_eq!(again.snapshot(), table.snapshot());
    }
    let command = ViewCommand::decode(input);
    if let Ok(command) = &command {
        assert_eq!(ViewCommand::decode(&command.encode()).as_ref(), Ok(command));
        let mut table = views.as_ref().cloned().unwrap_or_default();
        let before = table.view().epoch;
        assert!(table.apply(*command).epoch >= before);
    }
    memory.is_ok() || views.is_ok() || command.is_ok()
}

fn member(node: u64, incarnation: u64) -> Member {
    Member { node: NodeId::new(node), incarnation: Incarnation::new(incarnation) }
}

/// A snapshot of each table and a command of each kind.
fn samples() -> Vec<Bytes> {
    let mut memory = MemoryTable::new();
    let mut views = ViewTable::new();
    for number in 0..6 {
        let version = Version { epoch: Epoch::new(number), grant: number * 200, write: 1 };
        let value = (number % 2 == 0).then(|| vec![7; 40].into());
        memory.store(Epoch::new(9), Bytes::from(format!("key {number}")), version, value);
        views.apply(ViewCommand::Join { member: member(number, 300 + number) });
    }
    memory.fence(Epoch::new(4));
    views.apply(ViewCommand::TakeOffice { term: 5 });
    views.apply(ViewCommand::Leave { member: member(2, 302) });
    let commands = [
        ViewCommand::Join { member: member(1, 1 << 40) },
        ViewCommand::Leave { member: member(1, 301) },
        ViewCommand::Remove { member: member(3, 303), term: 5 },
        ViewCommand::TakeOffice { term: u64::MAX },
    ];
    let commands = commands.iter().map(ViewCommand::encode);
    [memory.snapshot(), views.snapshot()].into_iter().chain(commands).collect()
}

#[test]
fn what_was_encoded_is_accepted() {
    for sample in samples() {
        assert!(is_accepted(&sample), "{sample:?}");
    }
}

proptest! {
    #[test]
    fn noise_is_decoded_or_refused(format in 0_u8..4, noise: Vec<u8>) {
        is_accepted(&noise);
        is_accepted(&[&[format], &noise[..]].concat());
    }

    #[test]
    fn damaged_tables_are_decoded_or_refused(
        sample in 0_usize..6,
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut: Option<prop::sample::Index>,
    ) {
        let mut bytes = samples()[sample].to_vec();
        for (place, byte) in flips {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        is_accepted(&bytes);
    }
}
