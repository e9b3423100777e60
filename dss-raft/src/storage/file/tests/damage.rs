//! Files that are not what was written.

use super::*;

#[test]
fn a_flipped_bit_is_refused_wherever_it_is_even_in_the_last_batch() {
    const BATCHES: usize = 40;
    for seed in 40..43 {
        let (disk, models) = written(seed, BATCHES);
        let contents = disk.contents();
        let (newest, end) = end_of_log(&contents);
        for (name, content) in contents.iter().filter(|(name, _)| !name.ends_with(".tmp")) {
            for at in 0..content.len() {
                let (opened, disk) = opened_with(&contents, |contents| {
                    contents.get_mut(name).unwrap()[at] ^= 1 << (at % 8);
                });
                let case = format!("seed {seed}, {name} at {at}");
                match opened {
                    Err(StorageError::Damaged { path, offset, .. }) => {
                        assert!(path.ends_with(name), "{case}");
                        assert!(offset <= at as u64, "{case}: {offset}");
                    }
                    Err(StorageError::WrongIdentity { .. }) => assert_eq!(name, "identity"),
                    Err(error) => panic!("{case}: {error}"),
                    // One that the log does not name any more is removed at the start.
                    Ok(wal) if name.ends_with(".snapshot") && disk.open(name).is_ok() => {
                        let damaged = |group| {
                            matches!(restore(&wal, group), Err(StorageError::Damaged { .. }))
                        };
                        assert!(Writes::groups().any(damaged), "{case}");
                    }
                    // Behind everything that was written, where nothing is lost by it.
                    Ok(wal) => {
                        let is_behind = *name == newest && at >= end;
                        assert!(is_behind || name.ends_with(".snapshot"), "{case}");
                        assert!(holds(&wal, &models[BATCHES]), "{case}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_sector_of_garbage_in_the_last_batch_is_refused() {
    let mut refused = 0;
    for seed in 80..90 {
        let (disk, _) = written(seed, 25);
        let contents = disk.contents();
        let (newest, end) = end_of_log(&contents);
        for sector in 0..end.div_ceil(512) {
            let (opened, _) = opened_with(&contents, |contents| {
                let segment = contents.get_mut(&newest).unwrap();
                segment[sector * 512..(sector + 1) * 512].fill(0xa5);
            });
            assert!(
                matches!(opened, Err(StorageError::Damaged { .. })),
                "seed {seed}, sector {sector}"
            );
            refused += 1;
        }
    }
    assert!(refused > 10);
}

/// Disks that tear within a sector are not promised anything but this.
#[test]
fn a_sector_that_was_written_in_part_is_cut_off_or_refused_and_never_loses_anything() {
    const BATCHES: usize = 40;
    let (mut cut, mut refused) = (0, 0);
    for seed in 90..92 {
        let (whole, models) = written(seed, BATCHES);
        for crash_at in 0..whole.operations() {
            let disk = FaultyDisk::default();
            let acknowledged = run_until_crash(&disk, seed, BATCHES, crash_at);
            match open(&disk.after(Loss::Parts { piece: 8, seed: crash_at })) {
                Ok(wal) => {
                    cut += 1;
                    let found = batches_in(&wal, &models, acknowledged).unwrap();
                    assert!(found <= acknowledged + 1, "seed {seed}, crash at {crash_at}");
                }
                Err(StorageError::Damaged { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(cut > 0 && refused > 0, "{cut} cut, {refused} refused");
}

#[test]
fn missing_and_foreign_files_are_refused() {
    let (disk, models) = written(50, 60);
    let contents = disk.contents();
    for name in contents.keys().filter(|name| !name.ends_with(".tmp")) {
        let (opened, _) = opened_with(&contents, |contents| {
            contents.remove(name);
        });
        let newest = contents.keys().rfind(|name| name.ends_with(".wal")).unwrap();
        match opened {
            Err(StorageError::Damaged { .. }) => {}
            // A newest segment that is gone has left no trace.
            Ok(_) if name == newest => {}
            // An oldest one may hold nothing but what a snapshot covers.
            Ok(wal) if covers(&wal, &models[60]) => {}
            other => panic!("without {name}: {:?}", other.map(|_| ())),
        }
    }
    let (opened, _) = opened_with(&contents, |contents| {
        contents.retain(|name, _| !name.ends_with(".wal"));
    });
    assert!(matches!(opened, Err(StorageError::Damaged { .. })), "a log without segments");
    let newest = contents.keys().rfind(|name| name.ends_with(".wal")).unwrap();
    for length in [0, 40, 100, SEGMENT_BYTES - 1, SEGMENT_BYTES + 1] {
        let (opened, _) = opened_with(&contents, |contents| {
            contents.get_mut(newest).unwrap().resize(length, 0);
        });
        assert!(matches!(opened, Err(StorageError::Damaged { .. })), "of {length} bytes");
    }
    let (opened, _) = opened_with(&contents, |contents| {
        let copy = contents[newest].clone();
        contents.insert("99999999.wal".to_owned(), copy);
    });
    assert!(matches!(opened, Err(StorageError::Damaged { .. })), "a segment out of order");
}

#[test]
fn a_batch_that_vanished_from_a_sealed_segment_is_missed() {
    let (disk, _) = written(55, 60);
    let contents = disk.contents();
    let sealed = contents.keys().rfind(|name| name.ends_with(".wal")).unwrap();
    let sealed = contents.keys().rfind(|name| *name < sealed && name.ends_with(".wal")).unwrap();
    let trailer =
        |bytes: &[u8]| bytes.len() == FRAME_BYTES && bytes[4] == 2 && bytes[..4] == [0; 4];
    let segment = &contents[sealed];
    let trailers: Vec<usize> = (HEADER_BYTES..segment.len() - FRAME_BYTES)
        .step_by(8)
        .filter(|at| trailer(&segment[*at..*at + FRAME_BYTES]))
        .collect();
    let [.., before, _] = trailers[..] else { panic!("more than one batch fits in a segment") };
    let (opened, _) = opened_with(&contents, |contents| {
        contents.get_mut(sealed).unwrap()[before + FRAME_BYTES..].fill(0);
    });
    assert!(matches!(opened, Err(StorageError::Damaged { .. })));
}
