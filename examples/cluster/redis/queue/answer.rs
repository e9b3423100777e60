//! What a transition answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use dss_queue::{
    BrokerError, ConsumerName, DeadLetter, DeadReason, Delivery, GroupInfo, GroupName, MessageId,
    Receipt, TopicSettings, UnixMillis,
};
use redis::{FromRedisValue, ParsingError, Value};

use super::settings::settings_of;

/// An answer of another shape than the scripts give: some other program's keys, or another
/// release's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Strange;

impl From<Strange> for BrokerError {
    fn from(_: Strange) -> Self {
        Self::Unavailable
    }
}

/// A list of values, read one after the other.
#[derive(Debug)]
pub(super) struct Fields(std::vec::IntoIter<Value>);

impl FromRedisValue for Fields {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            other => Err(ParsingError::from(format!("a list was expected, not {other:?}"))),
        }
    }
}

impl Fields {
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Strange> {
        self.optional_bytes()?.ok_or(Strange)
    }

    pub(super) fn text(&mut self) -> Result<String, Strange> {
        String::from_utf8(self.bytes()?).map_err(|_| Strange)
    }

    pub(super) fn number(&mut self) -> Result<u64, Strange> {
        self.signed()?.try_into().map_err(|_| Strange)
    }

    pub(super) fn signed(&mut self) -> Result<i64, Strange> {
        match self.0.next() {
            Some(Value::Int(number)) => Ok(number),
            _ => Err(Strange),
        }
    }

    pub(super) fn list(&mut self) -> Result<Self, Strange> {
        match self.0.next() {
            Some(Value::Array(values)) => Ok(Self(values.into_iter())),
            _ => Err(Strange),
        }
    }

    /// Reads all that is left, one by one.
    pub(super) fn each<T>(
        mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Strange>,
    ) -> Result<Vec<T>, Strange> {
        let mut all = Vec::with_capacity(self.0.len());
        while self.0.len() > 0 {
            all.push(read(&mut self)?);
        }
        Ok(all)
    }

    pub(super) fn message_id(&mut self) -> Result<MessageId, Strange> {
        self.text()?.parse().map_err(|_| Strange)
    }

    fn optional_bytes(&mut self) -> Result<Option<Vec<u8>>, Strange> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => Ok(Some(bytes)),
            Some(Value::SimpleString(text)) => Ok(Some(text.into_bytes())),
            Some(Value::Nil) => Ok(None),
            _ => Err(Strange),
        }
    }

    fn optional_text(&mut self) -> Result<Option<String>, Strange> {
        let text = self.optional_bytes()?.map(String::from_utf8).transpose();
        text.map_err(|_| Strange)
    }

    fn headers(&mut self) -> Result<BTreeMap<String, String>, Strange> {
        match self.optional_bytes()? {
            None => Ok(BTreeMap::new()),
            Some(text) => serde_json::from_slice(&text).map_err(|_| Strange),
        }
    }

    fn attempts(&mut self) -> Result<u32, Strange> {
        self.number()?.try_into().map_err(|_| Strange)
    }

    pub(super) fn delivery(&mut self, nonce: u64) -> Result<Delivery, Strange> {
        let mut fields = self.list()?;
        let id = fields.message_id()?;
        let payload = Bytes::from(fields.bytes()?);
        let (key, headers) = (fields.optional_text()?, fields.headers()?);
        let attempt = fields.attempts()?;
        let produced_at = UnixMillis::new(fields.number()?);
        let receipt = Receipt::new(id, attempt, nonce);
        Ok(Delivery { id, payload, key, headers, attempt, receipt, produced_at })
    }

    pub(super) fn dead_letter(&mut self) -> Result<DeadLetter, Strange> {
        let mut fields = self.list()?;
        Ok(DeadLetter {
            id: fields.message_id()?,
            payload: Bytes::from(fields.bytes()?),
            key: fields.optional_text()?,
            headers: fields.headers()?,
            attempts: fields.attempts()?,
            produced_at: UnixMillis::new(fields.number()?),
            died_at: UnixMillis::new(fields.number()?),
            reason: match fields.text()?.as_str() {
                "expired" => DeadReason::Expired,
                "rejected" => DeadReason::Rejected,
                _ => return Err(Strange),
            },
            consumer: fields.optional_text()?.and_then(|name| ConsumerName::new(name).ok()),
        })
    }

    pub(super) fn group(&mut self) -> Result<(GroupName, GroupInfo), Strange> {
        let mut fields = self.list()?;
        let name = GroupName::new(fields.text()?).map_err(|_| Strange)?;
        let ready = fields.number()?;
        let in_flight = fields.number()?;
        let delayed = fields.number()?;
        let dead = fields.number()?;
        Ok((name, GroupInfo { ready, in_flight, delayed, dead }))
    }

    pub(super) fn settings(&mut self) -> Result<TopicSettings, Strange> {
        settings_of(&self.text()?).ok_or(Strange)
    }
}
