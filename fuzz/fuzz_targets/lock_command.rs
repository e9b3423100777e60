//! Commands and snapshots of locks are decoded or refused, and what is decoded can be applied.
#![no_main]

use dss_lock::{LockTable, StampedCommand};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // The first half of the inputs are commands for one table, each with its length before it; the
    // other half is a snapshot and then commands for what it restores.
    let Some((kind, mut rest)) = input.split_first() else { return };
    let mut table = LockTable::new();
    if kind % 2 == 1 {
        let Some((len, bytes)) = rest.split_first() else { return };
        let (snapshot, commands) = bytes.split_at(usize::from(*len).min(bytes.len()));
        rest = commands;
        match LockTable::restore(snapshot) {
            Ok(restored) => table = restored,
            Err(_) => return,
        }
        assert_eq!(table.check(), Ok(()));
    }
    while let Some((len, bytes)) = rest.split_first() {
        let (command, behind) = bytes.split_at(usize::from(*len).min(bytes.len()));
        rest = behind;
        let Ok(stamped) = StampedCommand::decode(command) else { continue };
        assert_eq!(StampedCommand::decode(&stamped.encode()).as_ref(), Ok(&stamped));
        let index = table.index() + 1;
        table.apply(index, stamped.now, stamped.command);
        assert_eq!(table.check(), Ok(()));
    }
    assert_eq!(LockTable::restore(&table.snapshot()).as_ref(), Ok(&table));
});
