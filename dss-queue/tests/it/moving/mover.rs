//! What moves topics: it looks, and sends the next step.

use dss_queue::{Command, Queue};

use super::Flaw;

/// Small enough that a topic takes several parts.
const PART: usize = 400;

/// The next step for the shard `own`, if there is one: of those that are due, the one that
/// `random` chooses. All that is read of another shard is read at once.
pub(super) fn next_step<'a>(
    own: &str,
    root: &Queue,
    shard: &dyn Fn(&str) -> Option<&'a Queue>,
    flaw: Option<Flaw>,
    random: u64,
) -> Option<Command> {
    let queue = shard(own)?;
    if root.epoch() > queue.epoch() {
        let (previous, current) = root.placements()?;
        let (previous, current) = (previous.clone(), current.clone());
        return Some(Command::Place { shard: own.to_owned(), previous, current });
    }
    let mut steps = Vec::new();
    for source in queue.sources() {
        steps.extend(import(own, queue, source, shard, flaw));
    }
    for (topic, target) in queue.leaving() {
        let epoch = queue.epoch();
        let is_there = shard(target).is_some_and(|it| it.has_taken(epoch, own, topic));
        if is_there || flaw == Some(Flaw::ForgetsBeforeItIsTaken) {
            steps.push(Command::Forget { epoch, topic: topic.clone() });
        }
    }
    let position = random.checked_rem(steps.len() as u64)?;
    Some(steps.swap_remove(usize::try_from(position).ok()?))
}

fn import<'a>(
    own: &str,
    queue: &Queue,
    source: &str,
    shard: &dyn Fn(&str) -> Option<&'a Queue>,
    flaw: Option<Flaw>,
) -> Option<Command> {
    let (epoch, source_name) = (queue.epoch(), source.to_owned());
    let source = shard(source)?;
    let departing = source.departing(epoch, own);
    if departing.is_none() && flaw == Some(Flaw::ServesBeforeAllHasCome) {
        return Some(Command::EndImports { epoch, source: source_name });
    }
    let mut missing = queue.missing(&source_name, departing?);
    let Some(topic) = missing.pop() else {
        return Some(Command::EndImports { epoch, source: source_name });
    };
    let export = source.export(&topic)?;
    let offset = queue.imported_bytes(&topic);
    let start = usize::try_from(offset).ok()?.min(export.len());
    let end = export.len().min(start + PART);
    let (bytes, last) = (export.slice(start..end), end == export.len());
    Some(Command::Import { epoch, source: source_name, topic, offset, bytes, last })
}
