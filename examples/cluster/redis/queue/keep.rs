//! Telling shadows what their places still need, every round.
//!
//! A place that was worked at since the last round gives an account of itself, which is told to
//! every server with a shadow of it: the shadow forgets what is older than all that the place has,
//! and remembers what the groups have done. Every server does not have to be asked for that: whoever
//! works at a place does so itself. Once in a while all shadows are gone through, for what a process
//! left behind that ended.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::copies::{Listed, PlaceName, Shadow, generation};
use super::place::{Answer, CallError, Place, QueueNode};
use super::shared::Shared;
use bytes::Bytes;

/// A shadow that is this many messages longer than twice its place is looked through: something old
/// at the place keeps it from being cut off at one end.
const SLACK: u64 = 1_000;
/// How many of its messages are asked about at a time.
const LOOKED_THROUGH: isize = 500;

/// What a place says of itself.
struct Account {
    mark: String,
    is_there: bool,
    /// Something is on its way to its home, and may be in no stream.
    is_moving: bool,
    length: u64,
    /// Whether it is there, its oldest sequence and the newest one given, and its changes: as the
    /// script that remembers it takes them.
    head: [Bytes; 4],
    groups: Vec<Bytes>,
}

impl Account {
    /// What helpers are told once the first shadow has all that was there: forget what they have.
    fn for_helpers(&self) -> Self {
        let [_, _, last, changes] = self.head.clone();
        let newest = std::str::from_utf8(&last).ok().and_then(|last| last.parse::<u64>().ok());
        let floor = Bytes::from(newest.map_or(0, |newest| newest + 1).to_string());
        let head = [Bytes::from_static(b"0"), floor, last, changes];
        Self { mark: self.mark.clone(), head, groups: Vec::new(), ..*self }
    }
}

/// What a shadow answers to an account.
struct Remembered {
    length: u64,
    is_whole: bool,
}

impl Shared {
    /// Tells the shadows of all places that were worked at; of all places where `everything`, or
    /// where a server was opened since.
    pub(super) async fn keep(&self, everything: bool) {
        let is_due = std::mem::take(&mut self.notes().is_list_due);
        if everything || is_due {
            self.list_shadows().await;
        }
        let touched = std::mem::take(&mut self.notes().touched);
        for name in touched {
            let (shard, home, topic) = name.clone();
            let Some(node) = self.node(shard).filter(|node| node.is_open()) else { continue };
            let place = Place { node: Arc::clone(node), topic, home };
            if let Err(error) = self.keep_place(&place, &name).await {
                tracing::debug!("shadows of {place:?} are not up to date: {error:?}");
                self.notes().touched.insert(name);
            }
        }
    }

    async fn keep_place(&self, place: &Place, name: &PlaceName) -> Result<(), CallError> {
        let account = self.account(place).await?;
        let others = self.others(place);
        let mut holders = self.notes().holders.get(name).cloned().unwrap_or_default();
        holders.retain(|holder| self.node(*holder).is_some_and(|node| node.seen().is_some()));
        let first = others.iter().find(|node| node.seen().is_some());
        if let Some(first) = first.filter(|_| account.is_there) {
            holders.insert(first.shard);
        }
        let (mut needs_all, mut helpers) = (None, Vec::new());
        for holder in holders {
            let Some(node) = self.node(holder) else { continue };
            let shadow =
                Shadow { node: Arc::clone(node), of: place.clone(), mark: account.mark.clone() };
            let remembered = self.remember(&shadow, &account, false).await?;
            if !account.is_there {
                self.notes().holders.remove(name);
                continue;
            }
            self.notes().holders.entry(name.clone()).or_default().insert(holder);
            if remembered.length > 2 * account.length + SLACK {
                self.thin(&shadow).await?;
            }
            if others.first().is_some_and(|first| first.shard == holder) {
                needs_all = Some((shadow, remembered.is_whole));
            } else if remembered.length > 0 {
                helpers.push(shadow);
            }
        }
        let Some((shadow, is_whole)) = needs_all else { return Ok(()) };
        // Others only help out, for as long as the first one is away.
        if !is_whole || (!helpers.is_empty() && !account.is_moving) {
            self.mend(&shadow).await?;
            for helper in helpers.iter().filter(|_| !account.is_moving) {
                self.remember(helper, &account.for_helpers(), false).await?;
            }
        }
        Ok(())
    }

    async fn account(&self, place: &Place) -> Result<Account, CallError> {
        let script = &self.caller.scripts.account;
        let none: [&str; 0] = [];
        let Answer { mut fields, mark, .. } = self.caller.call_place(place, script, none).await?;
        let there = fields.text()?;
        let is_there = there == "1";
        let head = [there, fields.text()?, fields.text()?, fields.text()?].map(Bytes::from);
        let length = fields.number()?;
        let groups = fields.list()?.each(|it| Ok(Bytes::from(it.bytes()?)))?;
        let is_moving = fields.number()? > 0;
        Ok(Account { mark, is_there, is_moving, length, head, groups })
    }

    async fn remember(
        &self,
        shadow: &Shadow,
        account: &Account,
        is_whole: bool,
    ) -> Result<Remembered, CallError> {
        loop {
            let mut arguments = account.head.to_vec();
            arguments.push(Bytes::from_static(if is_whole { b"1" } else { b"0" }));
            arguments.extend(account.groups.iter().cloned());
            let script = &self.caller.scripts.remember;
            let mut fields = self.ask_shadow(shadow, script, arguments).await?;
            let more = fields.number()? > 0;
            let length = fields.number()?;
            let is_whole = fields.text()? == "1";
            if !more {
                return Ok(Remembered { length, is_whole });
            }
        }
    }

    /// Tells one shadow how its place is.
    pub(super) async fn tell(&self, shadow: &Shadow) -> Result<(), CallError> {
        let account = self.account(&shadow.of).await?;
        if account.mark == shadow.mark {
            self.remember(shadow, &account, false).await?;
        }
        Ok(())
    }

    /// Copies to a shadow all that its place has: the shadow is new, or its server has lost it.
    pub(super) async fn mend(&self, shadow: &Shadow) -> Result<(), CallError> {
        let scripts = &self.caller.scripts;
        let mut from = "0".to_owned();
        while !from.is_empty() {
            let Answer { mut fields, mark, .. } =
                self.caller.call(&shadow.of, &scripts.export, [&from]).await?;
            if mark != shadow.mark {
                return Err(CallError::NotDone);
            }
            from = fields.text()?;
            let messages = fields.list()?.each(|it| Ok(Bytes::from(it.bytes()?)))?;
            if !messages.is_empty() {
                self.ask_shadow(shadow, &scripts.carry, messages).await?;
            }
        }
        let account = self.account(&shadow.of).await?;
        if account.mark != shadow.mark {
            return Err(CallError::NotDone);
        }
        self.remember(shadow, &account, true).await.map(drop)
    }

    /// Looks through a shadow for messages that its place has no more.
    async fn thin(&self, shadow: &Shadow) -> Result<(), CallError> {
        let scripts = &self.caller.scripts;
        let mut from = 0;
        loop {
            let mut command = redis::cmd("ZRANGE");
            command.arg(format!("{}:order", self.prefix(shadow)));
            command.arg(from).arg(from + LOOKED_THROUGH - 1);
            let names = shadow.node.redis.run::<Vec<String>>(&command).await;
            let names = names.map_err(|failure| CallError::of(&failure))?;
            if names.is_empty() {
                return Ok(());
            }
            let Answer { mut fields, mark, .. } =
                self.caller.call(&shadow.of, &scripts.missing, &names).await?;
            if mark != shadow.mark {
                return Err(CallError::NotDone);
            }
            let missing = fields.list()?.each(|it| it.text())?;
            from += isize::try_from(names.len() - missing.len()).unwrap_or(isize::MAX);
            if !missing.is_empty() {
                let missing = missing.into_iter().map(Bytes::from).collect();
                self.ask_shadow(shadow, &scripts.thin, missing).await?;
            }
        }
    }

    /// Goes through the shadows on all servers: those of places that were not worked at lately are
    /// told as well, and what was left behind by a server's loss is brought back.
    async fn list_shadows(&self) {
        let mut late = BTreeSet::new();
        for node in &self.nodes {
            for Listed { keeper, mark, home, topic } in self.shadows_on(node).await {
                let Some(of) = self.node(keeper) else { continue };
                let Some(open) = of.mark.borrow().clone() else { continue };
                if mark == open {
                    let name = (keeper, home, topic);
                    let mut notes = self.notes();
                    notes.holders.entry(name.clone()).or_default().insert(node.shard);
                    notes.touched.insert(name);
                } else if generation(&mark) <= generation(&open) {
                    late.insert(keeper);
                } else {
                    // It is not what somebody else knew.
                    self.census.learn(of.name(), &mark);
                    of.close();
                }
            }
        }
        for node in late.into_iter().filter_map(|keeper| self.node(keeper)) {
            match self.bring_all_back(node).await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::warn!(
                        "{count} messages came back late to Redis server {}",
                        node.name()
                    );
                }
                Err(error) => {
                    tracing::debug!("Redis server {} is not whole yet: {error:?}", node.name());
                    self.notes().is_list_due = true;
                }
            }
        }
        for node in self.nodes.iter().filter(|node| node.is_open()) {
            for (topic, _) in self.topics_on(node).await {
                if self.home(&topic).node.shard == node.shard {
                    self.notes().touched.insert((node.shard, None, topic));
                }
            }
        }
    }

    async fn shadows_on(&self, node: &QueueNode) -> Vec<Listed> {
        if node.seen().is_none() {
            return Vec::new();
        }
        let mut command = redis::cmd("SMEMBERS");
        command.arg(format!("{}:shadows", self.caller.keys));
        let members = node.redis.run::<Vec<String>>(&command).await.unwrap_or_default();
        members.iter().filter_map(|member| Listed::parse(member)).collect()
    }

    /// What a drain brought home is copied before the hand-off forgets it.
    pub(super) async fn copy_adopted(
        &self,
        target: &Place,
        mark: String,
        places: &[String],
        packets: &[Vec<u8>],
    ) -> Result<(), CallError> {
        let mut arguments = Vec::new();
        for (place, packet) in places.chunks_exact(2).zip(packets) {
            if !place[0].is_empty() {
                arguments.push(Bytes::from(place[0].clone()));
                arguments.push(Bytes::from(place[1].clone()));
                arguments.push(Bytes::from(packet.clone()));
            }
        }
        if arguments.is_empty() {
            return Ok(());
        }
        self.copy(target, mark, &self.caller.scripts.carry, arguments).await
    }
}
