//! What clients were told, and whether it can be true.

use crate::version::Version;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Call {
    Read,
    Write,
}

/// One operation of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Waiting(Call),
    Begun {
        call: Call,
        node: u8,
        /// The newest version that anybody had seen.
        floor: Option<Version>,
        /// Whether a node had been removed by then.
        late: bool,
    },
    Ended,
}

/// All operations. Versions are in the order of writes, so that a few comparisons decide whether
/// what clients see is linearizable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Monitor {
    pub(super) operations: Vec<Operation>,
    /// The newest version that was acknowledged or read on each node; nodes count from 1.
    seen: Vec<Option<Version>>,
    /// Which version each write has, as far as anybody knows.
    written: Vec<Option<Version>>,
    /// The newest version that only the removed node had seen: it may be lost.
    limbo: Option<Version>,
    /// What is above this, up to the limbo, is lost: somebody has seen the line without it.
    lost_above: Option<Option<Version>>,
}

impl Monitor {
    pub(super) fn new(nodes: u8, writes: u8, reads: u8) -> Self {
        let call = |count: u8, call| (0..count).map(move |_| Operation::Waiting(call));
        let operations: Vec<_> = call(writes, Call::Write).chain(call(reads, Call::Read)).collect();
        let written = vec![None; operations.len()];
        let seen = vec![None; usize::from(nodes) + 1];
        Self { operations, seen, written, limbo: None, lost_above: None }
    }

    /// The next operation of this kind that has not begun: which of them is all the same.
    pub(super) fn next(&self, call: Call) -> Option<usize> {
        self.operations.iter().position(|operation| *operation == Operation::Waiting(call))
    }

    pub(super) fn begin(&mut self, operation: usize, call: Call, node: u8, late: bool) {
        let floor = self.seen.iter().copied().max().flatten();
        self.operations[operation] = Operation::Begun { call, node, floor, late };
    }

    /// The node was removed. `lossy`: what only it has seen may be lost.
    pub(super) fn removed(&mut self, node: u8, lossy: bool) {
        if !lossy {
            return;
        }
        self.limbo = self.seen[usize::from(node)].take();
        let left = self.seen.iter().copied().max().flatten();
        for operation in &mut self.operations {
            if let Operation::Begun { floor, .. } = operation {
                *floor = (*floor).min(left);
            }
        }
    }

    /// A write was acknowledged.
    pub(super) fn written(&mut self, operation: usize, version: Version) -> Result<(), String> {
        let Operation::Begun { floor, .. } = self.operations[operation] else {
            return Err("answered twice".to_owned());
        };
        if Some(version) <= floor {
            return Err(format!("two writers: {version} is acknowledged after {floor:?}"));
        }
        self.is_write(operation, version)?;
        self.saw(operation, Some(version))
    }

    /// A read was answered.
    pub(super) fn read(
        &mut self,
        operation: usize,
        found: Option<(usize, Version)>,
    ) -> Result<(), String> {
        let Operation::Begun { floor, .. } = self.operations[operation] else {
            return Err("answered twice".to_owned());
        };
        let version = found.map(|(_, version)| version);
        if version < floor {
            return Err(format!("stale read: of {version:?} after {floor:?}"));
        }
        if let Some((write, version)) = found {
            self.is_write(write, version)?;
        }
        self.saw(operation, version)
    }

    /// It failed: a write may have been done or not, which hides nothing.
    pub(super) fn failed(&mut self, operation: usize) {
        self.operations[operation] = Operation::Ended;
    }

    fn is_write(&mut self, write: usize, version: Version) -> Result<(), String> {
        let taken = self.written.iter().position(|known| *known == Some(version));
        if taken.is_some_and(|taken| taken != write) {
            return Err(format!("two writers: both wrote {version}"));
        }
        if self.written[write].replace(version).is_some_and(|known| known != version) {
            return Err(format!("one write has two versions, {version} is one"));
        }
        Ok(())
    }

    fn saw(&mut self, operation: usize, version: Option<Version>) -> Result<(), String> {
        let Operation::Begun { node, late, .. } = self.operations[operation] else {
            return Ok(());
        };
        self.operations[operation] = Operation::Ended;
        let seen = &mut self.seen[usize::from(node)];
        *seen = (*seen).max(version);
        if version > self.limbo {
            return Ok(());
        }
        match self.lost_above {
            Some(lost_above) if version > lost_above => {
                Err(format!("a lost write came back: {version:?} after {lost_above:?}"))
            }
            Some(_) => Ok(()),
            None => {
                if late && version < self.limbo {
                    self.lost_above = Some(version);
                }
                Ok(())
            }
        }
    }
}
