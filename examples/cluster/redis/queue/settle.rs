//! Settling deliveries, wherever their messages are by now.
//!
//! A message moves from a hand-off to its home, never the other way. So a receipt is shown first
//! where its id was given, and then at the home; while the message is on its way, both again.

use std::collections::BTreeMap;
use std::time::Duration;

use dss_queue::{BrokerError, GroupName, Receipt, Settled, ShardId, TopicName};

use super::place::{CallError, Place};
use super::settings::millis;
use super::shared::{Found, Shared};

/// How long a message may be on its way before its receipt is refused for the time being.
const MOVING_LOOKS: usize = 20;
const MOVING_PAUSE: Duration = Duration::from_millis(50);

/// What is to become of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Ack,
    Nack(Duration),
    Extend(Duration),
    Back,
}

/// What became of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Nobody was asked yet.
    Open,
    Done,
    Stale,
    Moving,
}

/// Arguments of the settling script.
pub(super) fn settlement(group: &GroupName, what: What, receipts: &[Receipt]) -> Vec<String> {
    let (word, span) = match what {
        What::Ack => ("ack", Duration::ZERO),
        What::Nack(delay) => ("nack", delay),
        What::Extend(visibility) => ("extend", visibility),
        What::Back => ("back", Duration::ZERO),
    };
    let mut arguments = vec![group.as_str().to_owned(), word.to_owned(), millis(span).to_string()];
    for receipt in receipts {
        arguments.push(receipt.message().to_string());
        arguments.push(receipt.attempt().to_string());
        arguments.push(receipt.nonce().to_string());
    }
    arguments
}

/// The receipts of one call, with what is known of each.
struct Hearing<'a> {
    shared: &'a Shared,
    group: &'a GroupName,
    what: What,
    receipts: Vec<Receipt>,
    verdicts: Vec<Verdict>,
    /// Somebody knows the group.
    heard: bool,
    /// Why a place could not say anything.
    failure: Option<CallError>,
}

impl Shared {
    pub(super) async fn settle(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
        what: What,
    ) -> Result<Settled, BrokerError> {
        let home = self.home(topic);
        let verdicts = vec![Verdict::Open; receipts.len()];
        let mut hearing =
            Hearing { shared: self, group, what, receipts, verdicts, heard: false, failure: None };
        for look in 0..MOVING_LOOKS {
            if look > 0 {
                tokio::time::sleep(MOVING_PAUSE).await;
            }
            hearing.hear(&home).await;
            if !hearing.verdicts.contains(&Verdict::Moving) {
                break;
            }
        }
        hearing.conclude()
    }
}

impl Hearing<'_> {
    /// Shows what is not settled where it may be.
    async fn hear(&mut self, home: &Place) {
        self.failure = None;
        for verdict in self.verdicts.iter_mut().filter(|verdict| **verdict == Verdict::Moving) {
            *verdict = Verdict::Open;
        }
        let mut elsewhere = BTreeMap::<ShardId, Vec<usize>>::new();
        for (number, receipt) in self.receipts.iter().enumerate() {
            let shard = receipt.message().shard();
            let is_open = self.verdicts[number] == Verdict::Open;
            if is_open && shard != home.node.shard {
                elsewhere.entry(shard).or_default().push(number);
            }
        }
        for (shard, numbers) in elsewhere {
            if let Some(node) = self.shared.node(shard) {
                let place = Place {
                    node: node.clone(),
                    topic: home.topic.clone(),
                    home: Some(home.node.shard),
                };
                self.show(&place, &numbers).await;
            }
        }
        // What moves away from one place may have arrived at the other one since it was asked.
        let left = |number: &usize| self.verdicts[*number] != Verdict::Done;
        let numbers: Vec<_> = (0..self.receipts.len()).filter(left).collect();
        // A call without receipts asks as well: there may be no such group.
        if !numbers.is_empty() || self.receipts.is_empty() {
            self.show(home, &numbers).await;
        }
    }

    async fn show(&mut self, place: &Place, numbers: &[usize]) {
        let receipts: Vec<_> = numbers.iter().map(|number| self.receipts[*number]).collect();
        let arguments = settlement(self.group, self.what, &receipts);
        match self.shared.ask(place, &self.shared.caller.scripts.settle, arguments).await {
            Ok(Found::Answer(mut fields)) => {
                self.heard = true;
                let words = fields.list().and_then(|words| words.each(|word| word.text()));
                let Ok(words) = words else {
                    self.failure = Some(CallError::Refused);
                    return;
                };
                for (number, word) in numbers.iter().zip(words) {
                    self.rule(*number, &word);
                }
            }
            Ok(_) => numbers.iter().for_each(|number| self.rule(*number, "stale")),
            Err(error) => self.failure = Some(error),
        }
    }

    fn rule(&mut self, number: usize, word: &str) {
        let verdict = &mut self.verdicts[number];
        *verdict = match word {
            "done" => Verdict::Done,
            "moving" => Verdict::Moving,
            // The home says so of what has not arrived there yet.
            _ if *verdict == Verdict::Moving => Verdict::Moving,
            _ => Verdict::Stale,
        };
    }

    fn conclude(self) -> Result<Settled, BrokerError> {
        let is_done = |verdict: &&Verdict| **verdict == Verdict::Done;
        let done = self.verdicts.iter().filter(is_done).count();
        if done < self.receipts.len() || self.receipts.is_empty() {
            let moving = self.verdicts.contains(&Verdict::Moving).then_some(CallError::NotDone);
            match self.failure.or(moving) {
                None if !self.heard => return Err(BrokerError::NotFound),
                None => {}
                // Some were settled, and nobody could say which of the others were.
                Some(CallError::NotDone) if done > 0 => return Err(BrokerError::OutcomeUnknown),
                Some(error) => return Err(error.into()),
            }
        }
        let stale = self.receipts.into_iter().zip(self.verdicts);
        let stale = stale.filter(|(_, verdict)| *verdict != Verdict::Done);
        Ok(Settled { done, stale: stale.map(|(receipt, _)| receipt).collect() })
    }
}
