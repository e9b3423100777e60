//! The methods of the broker.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dss_queue::limits::{
    BATCH_BYTES_MAX, DEAD_LETTERS_LISTED_MAX, REDRIVE_MAX, check_delay, check_receipts,
    check_visibility,
};
use dss_queue::{
    Broker, BrokerError, DeadLetter, Delivery, Fence, GroupInfo, GroupName, MessageId, NewMessage,
    Receipt, ReceiveRequest, Settled, TopicInfo, TopicName, TopicSettings,
};

use super::RedisBroker;
use super::place::{CallError, Place};
use super::settings::{check_supported, millis, parts_of};
use super::settle::What;
use super::shared::{EPOCH, Found, Shared};

/// How many redrives it takes at most: far more than a server has room for dead letters.
const REDRIVES_MAX: usize = 100_000;

#[async_trait]
impl Broker for RedisBroker {
    async fn configure(
        &self,
        topic: &TopicName,
        settings: TopicSettings,
    ) -> Result<(), BrokerError> {
        settings.check()?;
        check_supported(&settings)?;
        let shared = &self.shared;
        let parts = parts_of(&settings);
        shared.ask(&shared.home(topic), &shared.caller.scripts.configure, &parts).await?;
        // A hand-off that is there changes at once, one to come takes what its node was told.
        shared.tell_settings(topic, &parts.join(" ")).await;
        for place in shared.sources(topic).iter().filter(|place| place.home.is_some()) {
            let _ = shared.ask(place, &shared.caller.scripts.configure, &parts).await;
        }
        Ok(())
    }

    async fn publish(
        &self,
        topic: &TopicName,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<MessageId>, BrokerError> {
        NewMessage::check_batch(&messages)?;
        self.shared.publish(topic, &messages, None).await
    }

    async fn publish_fenced(
        &self,
        topic: &TopicName,
        messages: Vec<NewMessage>,
        fence: Fence,
    ) -> Result<Vec<MessageId>, BrokerError> {
        NewMessage::check_batch(&messages)?;
        fence.check()?;
        self.shared.publish(topic, &messages, Some(&fence)).await
    }

    async fn receive(
        &self,
        topic: &TopicName,
        group: &GroupName,
        request: ReceiveRequest,
    ) -> Result<Vec<Delivery>, BrokerError> {
        request.check()?;
        self.shared.receive(topic, group, request).await
    }

    async fn ack(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
    ) -> Result<Settled, BrokerError> {
        check_receipts(receipts.len())?;
        self.shared.settle(topic, group, receipts, What::Ack).await
    }

    async fn nack(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
        delay: Duration,
    ) -> Result<Settled, BrokerError> {
        check_receipts(receipts.len())?;
        check_delay(delay)?;
        self.shared.settle(topic, group, receipts, What::Nack(delay)).await
    }

    async fn hand_back(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
    ) -> Result<Settled, BrokerError> {
        check_receipts(receipts.len())?;
        self.shared.settle(topic, group, receipts, What::Back).await
    }

    async fn extend(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
        visibility: Duration,
    ) -> Result<Settled, BrokerError> {
        check_receipts(receipts.len())?;
        check_visibility(visibility)?;
        self.shared.settle(topic, group, receipts, What::Extend(visibility)).await
    }

    async fn dead_letters(
        &self,
        topic: &TopicName,
        group: &GroupName,
    ) -> Result<Vec<DeadLetter>, BrokerError> {
        let (mut letters, mut found) = (Vec::new(), false);
        for place in self.shared.everywhere(topic)? {
            let before = letters.len();
            while letters.len() < DEAD_LETTERS_LISTED_MAX {
                let from = letters.len() - before;
                let limit = DEAD_LETTERS_LISTED_MAX - letters.len();
                let page = self.shared.dead_letters(&place, group, from, limit).await?;
                found |= page.is_some();
                let Some(page) = page.filter(|page| !page.is_empty()) else { break };
                letters.extend(page);
            }
        }
        if found { Ok(letters) } else { Err(BrokerError::NotFound) }
    }

    async fn redrive(&self, topic: &TopicName, group: &GroupName) -> Result<u64, BrokerError> {
        let (mut total, mut found) = (0, false);
        for place in self.shared.everywhere(topic)? {
            for _ in 0..REDRIVES_MAX {
                let arguments = [group.as_str().to_owned(), REDRIVE_MAX.to_string()];
                let script = &self.shared.caller.scripts.redrive;
                let Found::Answer(mut fields) = self.shared.ask(&place, script, arguments).await?
                else {
                    break;
                };
                found = true;
                total += fields.number()?;
                if fields.number()? == 0 {
                    break;
                }
            }
        }
        if found { Ok(total) } else { Err(BrokerError::NotFound) }
    }

    async fn topic(&self, topic: &TopicName) -> Result<TopicInfo, BrokerError> {
        self.shared.topic(topic).await
    }

    async fn topics(&self) -> Result<Vec<TopicName>, BrokerError> {
        self.shared.topics().await
    }

    async fn delete(&self, topic: &TopicName) -> Result<(), BrokerError> {
        // What a server that is down keeps would come back with it.
        let places = self.shared.places(topic);
        if !places.iter().all(|place| place.node.is_open()) {
            return Err(BrokerError::Unavailable);
        }
        let (mut found, mut changed) = (false, false);
        // The home last: what has left a hand-off then is refused there.
        for place in places.iter().rev() {
            let none: [&str; 0] = [];
            let script = &self.shared.caller.scripts.delete;
            match self.shared.ask(place, script, none).await {
                Ok(Found::Answer(_)) => found = true,
                Ok(_) => {}
                Err(CallError::NotDone) if changed => return Err(BrokerError::OutcomeUnknown),
                Err(error) => return Err(error.into()),
            }
            changed = true;
        }
        self.shared.handoffs().remove(topic);
        self.shared.erase_shadows(topic).await;
        if found { Ok(()) } else { Err(BrokerError::NotFound) }
    }
}

fn invalid(field: &'static str, problem: &'static str) -> BrokerError {
    BrokerError::Invalid { field, problem }
}

/// Arguments of the publishing script.
fn publication(messages: &[NewMessage], fence: Option<&Fence>) -> Result<Vec<Bytes>, BrokerError> {
    let (lock, token) =
        fence.map_or_else(Default::default, |it| (it.lock.clone(), it.token.to_string()));
    let mut arguments = vec![EPOCH.to_string().into(), lock.into(), token.into()];
    let or_empty = |text: &Option<String>| text.clone().map_or_else(Bytes::new, Bytes::from);
    for message in messages {
        arguments.push(message.payload.clone());
        arguments.push(or_empty(&message.key));
        arguments.push(Bytes::from(headers_of(message)?));
        arguments.push(Bytes::from(millis(message.delay).to_string()));
        arguments.push(or_empty(&message.dedupe_id));
    }
    Ok(arguments)
}

/// As they are kept; nothing where there are none.
pub(super) fn headers_of(message: &NewMessage) -> Result<Vec<u8>, BrokerError> {
    match message.headers.len() {
        0 => Ok(Vec::new()),
        _ => serde_json::to_vec(&message.headers).map_err(|_| BrokerError::Unavailable),
    }
}

impl Shared {
    /// Publishes at the first place of the preference list that can be reached, and has a second
    /// server keep a copy: where none does, the message is there, and the outcome unknown. After an unknown
    /// outcome the next one is asked only where the drain will tell that both are the same.
    async fn publish(
        &self,
        topic: &TopicName,
        messages: &[NewMessage],
        fence: Option<&Fence>,
    ) -> Result<Vec<MessageId>, BrokerError> {
        let arguments = publication(messages, fence)?;
        let repeatable = messages.iter().all(|message| message.dedupe_id.is_some());
        let mut failure = CallError::NotDone;
        for place in self.places(topic) {
            // Before the messages, so that whoever receives here from now on looks there.
            if place.home.is_some() && place.node.is_open() {
                self.note_handoff(topic, place.node.shard);
            }
            let slices = arguments.iter().map(AsRef::<[u8]>::as_ref);
            match self.ask_marked(&place, &self.caller.scripts.publish, slices).await {
                Ok((Found::Answer(mut fields), mark)) => {
                    let is_new = fields.number()? > 0;
                    let ids = fields.list()?.each(|fields| fields.message_id())?;
                    if is_new {
                        let settings = parts_of(&TopicSettings::default()).join(" ");
                        self.introduce(topic, &settings, place.node.shard).await;
                    }
                    self.copy_published(&place, mark, messages, &ids, fields).await?;
                    return Ok(ids);
                }
                Ok((Found::Other(word), _)) if word == "DELAY" => {
                    return Err(invalid("delay", "must be shorter than the topic's retention"));
                }
                Ok((Found::Other(word), _)) if word == "FENCED" => return Err(BrokerError::Fenced),
                Ok((Found::Other(word), _)) if word == "LOCKS" => {
                    return Err(BrokerError::Overloaded);
                }
                Ok(_) => return Err(BrokerError::Unavailable),
                Err(CallError::NotDone) => {}
                Err(CallError::Unknown) if repeatable => failure = CallError::Unknown,
                Err(error) => return Err(error.into()),
            }
        }
        Err(failure.into())
    }

    /// A page of the dead letters at one place; `None` where there is no such group.
    async fn dead_letters(
        &self,
        place: &Place,
        group: &GroupName,
        from: usize,
        limit: usize,
    ) -> Result<Option<Vec<DeadLetter>>, BrokerError> {
        let arguments = [
            group.as_str().to_owned(),
            from.to_string(),
            limit.to_string(),
            BATCH_BYTES_MAX.to_string(),
        ];
        match self.ask(place, &self.caller.scripts.dead, arguments).await? {
            Found::Answer(mut fields) => {
                Ok(Some(fields.list()?.each(|fields| fields.dead_letter())?))
            }
            _ => Ok(None),
        }
    }

    async fn topic(&self, topic: &TopicName) -> Result<TopicInfo, BrokerError> {
        let home = self.home(topic);
        let mut whole = None::<TopicInfo>;
        for place in self.everywhere(topic)? {
            let none: [&str; 0] = [];
            let found = self.ask(&place, &self.caller.scripts.inspect, none).await?;
            let Found::Answer(mut fields) = found else { continue };
            let settings = fields.settings()?;
            let length = fields.number()?;
            let groups: BTreeMap<_, _> =
                fields.list()?.each(|fields| fields.group())?.into_iter().collect();
            let part = TopicInfo {
                topic: topic.clone(),
                shard: home.node.name().to_owned(),
                home: Some(home.node.name().to_owned()),
                settings,
                length,
                groups,
            };
            whole = Some(match whole {
                None => part,
                Some(whole) => joined(whole, &part),
            });
        }
        whole.ok_or(BrokerError::NotFound)
    }

    async fn topics(&self) -> Result<Vec<TopicName>, BrokerError> {
        let mut command = redis::cmd("HKEYS");
        command.arg(format!("{}:topics", self.caller.keys));
        let (mut topics, mut heard) = (std::collections::BTreeSet::new(), false);
        for node in self.nodes.iter().filter(|node| node.is_open()) {
            // What one node keeps for itself, the others have been told.
            if let Ok(names) = node.redis.run::<Vec<String>>(&command).await {
                heard = true;
                topics.extend(names.into_iter().filter_map(|name| TopicName::new(name).ok()));
            }
        }
        if heard { Ok(topics.into_iter().collect()) } else { Err(BrokerError::Unavailable) }
    }
}

/// A topic at its home together with a hand-off. Of a hand-off, a group that never received there
/// has everything before it.
fn joined(mut home: TopicInfo, handoff: &TopicInfo) -> TopicInfo {
    let untouched = |length| GroupInfo { ready: length, ..GroupInfo::default() };
    let names: Vec<_> = home.groups.keys().chain(handoff.groups.keys()).cloned().collect();
    let of = |info: &TopicInfo, name: &GroupName| {
        info.groups.get(name).copied().unwrap_or_else(|| untouched(info.length))
    };
    let groups = names.into_iter().map(|name| {
        let (left, right) = (of(&home, &name), of(handoff, &name));
        let sum = GroupInfo {
            ready: left.ready + right.ready,
            in_flight: left.in_flight + right.in_flight,
            delayed: left.delayed + right.delayed,
            dead: left.dead + right.dead,
        };
        (name, sum)
    });
    home.groups = groups.collect();
    home.length += handoff.length;
    home
}
