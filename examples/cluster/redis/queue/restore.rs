//! Bringing back what a server has lost, from the shadows that others keep of it.
//!
//! In small steps, each of which may be repeated, by any number of processes at the same time: the
//! server takes each message of a shadow once; only then the message is kept under the server's new
//! mark instead of its old one. So at every moment it is on two servers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dss_queue::{ShardId, TopicName};

use super::copies::{Listed, Shadow, generation};
use super::place::{Answer, CallError, ELSEWHERE, Place, Preamble, QueueNode, shard_text};
use super::shared::Shared;

/// Shadows by what they are of.
type Sources = BTreeMap<(Option<ShardId>, TopicName), Vec<Shadow>>;

/// What is next in a shadow.
#[derive(Default)]
struct Page {
    settings: String,
    floor: String,
    groups: Vec<Vec<u8>>,
    /// Sequences with packets.
    messages: Vec<(u64, Vec<u8>)>,
    /// Dedupe ids with message ids and when they are forgotten, one after the other.
    dedupes: Vec<Vec<u8>>,
}

impl Shared {
    /// Brings back all that can be had of a server that was seen; how many messages.
    pub(super) async fn bring_all_back(&self, node: &Arc<QueueNode>) -> Result<usize, CallError> {
        let mut total = 0;
        for sources in self.sources_of(node).await?.values() {
            for source in sources {
                self.remind(source).await?;
            }
            while let Some(count) = self.bring_back_some(sources).await? {
                total += count;
            }
            for source in sources {
                self.finish_source(source).await?;
            }
        }
        Ok(total)
    }

    /// The shadows of what a server was under earlier marks, by their places. From here on nothing
    /// is added to them, and no sequence is given again.
    async fn sources_of(&self, node: &Arc<QueueNode>) -> Result<Sources, CallError> {
        let mut sources = Sources::new();
        for other in self.nodes.iter().filter(|other| other.shard != node.shard) {
            if other.seen().is_none() {
                continue;
            }
            for Listed { home, topic, mark, .. } in self.seal(other, node).await? {
                let of = Place { node: Arc::clone(node), topic: topic.clone(), home };
                let shadow = Shadow { node: Arc::clone(other), of, mark };
                sources.entry((home, topic)).or_default().push(shadow);
            }
        }
        Ok(sources)
    }

    /// Has a server add nothing more to shadows under earlier marks of `node`; which of them it has.
    async fn seal(
        &self,
        other: &Arc<QueueNode>,
        node: &Arc<QueueNode>,
    ) -> Result<Vec<Listed>, CallError> {
        let Some(seen) = node.seen() else { return Err(CallError::NotDone) };
        let nowhere = || Preamble {
            instance: self.caller.keys.clone(),
            topic: "",
            home: ELSEWHERE.to_owned(),
        };
        let scripts = &self.caller.scripts;
        let arguments = [shard_text(node.shard), seen.mark.clone(), String::new()];
        let Answer { mut fields, .. } =
            self.caller.call_closed(other, nowhere(), &scripts.seal, arguments).await?;
        let newest = fields.text()?;
        let members = fields.list()?.each(|it| it.text())?;
        self.caller.call_closed(node, nowhere(), &scripts.raise, [newest]).await?;
        let listed = members.iter().filter_map(|member| Listed::parse(member));
        let is_stale = |it: &Listed| {
            it.keeper == node.shard
                && it.mark != seen.mark
                && generation(&it.mark) <= generation(&seen.mark)
        };
        Ok(listed.filter(is_stale).collect())
    }

    /// Settings, groups, and what these have done with messages that are there.
    async fn remind(&self, source: &Shadow) -> Result<(), CallError> {
        let page = self.recall(source).await?;
        let mut from = "0".to_owned();
        while !from.is_empty() {
            let head = [
                generation(&source.mark).to_string().into_bytes(),
                page.settings.clone().into_bytes(),
                page.floor.clone().into_bytes(),
                from.into_bytes(),
            ];
            let arguments: Vec<_> = head.into_iter().chain(page.groups.iter().cloned()).collect();
            let slices = arguments.iter().map(Vec::as_slice);
            let script = &self.caller.scripts.remind;
            from = self.caller.call_place(&source.of, script, slices).await?.fields.text()?;
        }
        Ok(())
    }

    /// The next messages of those shadows, the oldest first; how many, `None` where none are left.
    async fn bring_back_some(&self, sources: &[Shadow]) -> Result<Option<usize>, CallError> {
        let mut pages = Vec::new();
        for source in sources {
            let mut page = self.recall(source).await?;
            if !page.messages.is_empty() {
                pages.push((source, std::mem::take(&mut page.messages)));
            }
        }
        pages.sort_by_key(|(_, messages)| messages[0].0);
        let limit = pages.get(1).map_or(u64::MAX, |(_, messages)| messages[0].0);
        let Some((source, mut messages)) = pages.into_iter().next() else { return Ok(None) };
        // Of one that two servers have, the first is taken, and the other one is known then.
        messages.retain(|(sequence, _)| *sequence <= limit);
        let places = self.revive(source, &messages).await?;
        self.renew(source, &messages, &places).await?;
        Ok(Some(messages.len()))
    }

    /// Has the place take messages of a shadow; where each of them is then, and by which id.
    async fn revive(
        &self,
        source: &Shadow,
        messages: &[(u64, Vec<u8>)],
    ) -> Result<Vec<String>, CallError> {
        let mut arguments = revival(source, "m");
        for (sequence, packet) in messages {
            arguments.push(sequence.to_string().into_bytes());
            arguments.push(packet.clone());
        }
        let slices = arguments.iter().map(Vec::as_slice);
        let script = &self.caller.scripts.revive;
        let mut answer = self.caller.call_place(&source.of, script, slices).await?;
        Ok(answer.fields.list()?.each(|it| it.text())?)
    }

    /// Has the shadow's server keep under the new mark what the place has again.
    async fn renew(
        &self,
        source: &Shadow,
        messages: &[(u64, Vec<u8>)],
        places: &[String],
    ) -> Result<(), CallError> {
        let newer = self.newer(source)?;
        let mut arguments = self.renewal(&newer, "m");
        for ((sequence, _), place) in messages.iter().zip(places.chunks_exact(2)) {
            arguments.push(sequence.to_string().into());
            arguments.extend(place.iter().cloned().map(Bytes::from));
        }
        self.ask_shadow(source, &self.caller.scripts.renew, arguments).await.map(drop)
    }

    /// Dedupe ids, which come after the messages that have them; then the shadow is done with.
    async fn finish_source(&self, source: &Shadow) -> Result<(), CallError> {
        let newer = self.newer(source)?;
        loop {
            let dedupes = self.recall(source).await?.dedupes;
            if dedupes.is_empty() {
                break;
            }
            let mut renewal = self.renewal(&newer, "e");
            for dedupe in dedupes.chunks_exact(3) {
                renewal.push(Bytes::from(dedupe[0].clone()));
            }
            let mut arguments = revival(source, "e");
            arguments.extend(dedupes);
            let slices = arguments.iter().map(Vec::as_slice);
            self.caller.call_place(&source.of, &self.caller.scripts.revive, slices).await?;
            self.ask_shadow(source, &self.caller.scripts.renew, renewal).await?;
        }
        self.tell(&newer).await?;
        let script = &self.caller.scripts.forget_shadow;
        self.ask_shadow(source, script, Vec::new()).await.map(drop)
    }

    /// What the script that renews is told first.
    fn renewal(&self, newer: &Shadow, kind: &'static str) -> Vec<Bytes> {
        vec![self.prefix(newer).into(), newer.member().into(), Bytes::from_static(kind.as_bytes())]
    }

    /// The shadow on the same server under the new mark of the place's.
    fn newer(&self, source: &Shadow) -> Result<Shadow, CallError> {
        let seen = source.of.node.seen().ok_or(CallError::NotDone)?;
        let name = source.of.name();
        self.notes().holders.entry(name).or_default().insert(source.node.shard);
        Ok(Shadow { mark: seen.mark, ..source.clone() })
    }

    /// From here on nobody restores the server.
    pub(super) async fn finish_restoring(&self, node: &QueueNode) -> Result<(), CallError> {
        let preamble =
            Preamble { instance: self.caller.keys.clone(), topic: "", home: ELSEWHERE.to_owned() };
        let none: [&str; 0] = [];
        self.caller.call_closed(node, preamble, &self.caller.scripts.restored, none).await.map(drop)
    }

    async fn recall(&self, source: &Shadow) -> Result<Page, CallError> {
        let mut fields = self.ask_shadow(source, &self.caller.scripts.recall, Vec::new()).await?;
        let (settings, floor) = (fields.text()?, fields.text()?);
        let groups = fields.list()?.each(|it| it.bytes())?;
        let messages = fields.list()?.each(|it| {
            let sequence = it.text()?.parse().map_err(|_| super::answer::Strange)?;
            Ok((sequence, it.bytes()?))
        })?;
        let dedupes = fields.list()?.each(|it| it.bytes())?;
        Ok(Page { settings, floor, groups, messages, dedupes })
    }
}

/// What the reviving script is told first.
fn revival(source: &Shadow, kind: &str) -> Vec<Vec<u8>> {
    let generation = generation(&source.mark).to_string();
    let texts = [shard_text(source.node.shard), source.mark.clone(), generation, kind.to_owned()];
    texts.map(String::into_bytes).to_vec()
}
