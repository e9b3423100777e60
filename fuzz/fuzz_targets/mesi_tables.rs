//! Snapshots and commands of the cache's replicated tables are decoded or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(table) = dss_mesi::MemoryTable::restore(input) {
        assert_eq!(dss_mesi::MemoryTable::restore(&table.snapshot()).as_ref(), Ok(&table));
    }
    if let Ok(table) = dss_mesi::ViewTable::restore(input) {
        let again = dss_mesi::ViewTable::restore(&table.snapshot()).expect("its own snapshot");
        assert_eq!(again.snapshot(), table.snapshot());
    }
    let _ = dss_mesi::ViewCommand::decode(input);
});
