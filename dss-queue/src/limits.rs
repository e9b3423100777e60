//! How much of everything there may be.
//!
//! Constants rather than configuration: every node must decide every command alike, so a limit that
//! differed between two of them would let their states part.

use std::time::Duration;

use crate::refusal::Refusal;

/// Bytes of a name of a topic, a group or a consumer, of a key and of a dedupe id. 512 is what a
/// path segment of the HTTP API may have.
pub const NAME_BYTES_MAX: usize = 512;

/// Bytes of one payload: 1 MiB, as SQS and JetStream have it. What is larger belongs into a store
/// whose address is queued.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Headers of one message.
pub const HEADERS_MAX: usize = 64;

/// Bytes of all header names and values of one message together.
pub const HEADER_BYTES_MAX: usize = 16 << 10;

/// Messages of one publish.
pub const PUBLISH_MESSAGES_MAX: usize = 1_000;

/// Bytes of one publish, and of one receive, which stops before it exceeds them but always takes
/// one message: several full payloads, and still a log entry that replicates within a heartbeat.
pub const BATCH_BYTES_MAX: usize = 4 << 20;

/// Messages that one receive may ask for.
pub const RECEIVE_MESSAGES_MAX: usize = 1_000;

/// Receipts of one ack, nack or extend.
pub const RECEIPTS_MAX: usize = 1_000;

/// How long a receive may wait.
pub const WAIT_MAX: Duration = Duration::from_secs(60 * 60);

/// The longest visibility timeout: 12 hours, as SQS has it. Longer work extends its lease.
pub const VISIBILITY_MAX: Duration = Duration::from_secs(12 * 60 * 60);

/// The longest delay of a message, of a nack, and the longest retention: ten years.
pub const SPAN_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Messages in flight in one group. Each is an entry in memory; consumers that hold more do not
/// work them off but hoard them (SQS stops at 120,000).
pub const IN_FLIGHT_MAX: u64 = 100_000;

/// Groups of one topic: each costs every publish a step.
pub const GROUPS_MAX: usize = 1_000;

/// Topics of one shard.
pub const TOPICS_MAX: usize = 100_000;

/// Bytes that one shard keeps: messages with [`MESSAGE_OVERHEAD_BYTES`] each, dead letters and
/// dedupe ids. They live in memory and in every snapshot.
pub const STORED_BYTES_MAX: u64 = 1 << 30;

/// What a message costs beside its text: id, times, and its places in the indexes.
pub const MESSAGE_OVERHEAD_BYTES: u64 = 200;

/// How long a dedupe id is remembered after the publish that brought it.
pub const DEDUPE_WINDOW: Duration = Duration::from_secs(5 * 60);

/// How late the memory of a dedupe id that has ended may be given back: what ends within the same
/// ten seconds costs one tick. The window itself is exact.
pub const DEDUPE_SLACK: Duration = Duration::from_secs(10);

/// Timers fired before one command: about a millisecond's worth. What is left is due at once.
pub const TIMERS_PER_COMMAND_MAX: usize = 1_000;

/// Messages passed by one receive without delivering them, since an earlier one of their key is
/// not settled or their delay is not over.
pub const PASSED_PER_RECEIVE_MAX: usize = 10_000;

/// Dead letters moved by one [`Command::Redrive`](crate::Command::Redrive).
pub const REDRIVE_MAX: usize = 1_000;

/// Dead letters of one listing, oldest first.
pub const DEAD_LETTERS_LISTED_MAX: usize = 1_000;

/// Locks of which one topic remembers the newest fencing token.
pub const FENCES_MAX: usize = 1_000;

/// For how long a topic remembers the newest token of a lock at least, after the last publish under
/// it. A holder that is later than that by a pause has long been forgotten by its lock.
pub const FENCE_MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// Shards of one placement.
pub const SHARDS_MAX: usize = 256;

/// Bytes of one part of a topic that moves from shard to shard: a log entry of the size of a full
/// batch.
pub const IMPORT_PART_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// Messages of one [`Queue::peek`](crate::Queue::peek).
pub const PEEKED_MAX: usize = 1_000;

/// Messages that one [`Queue::peek`](crate::Queue::peek) looks at, since a group may be done with
/// most of what is kept for others.
pub const PEEK_LOOKS_MAX: usize = 10_000;

/// Whether as many receipts may be settled at a time.
///
/// # Errors
///
/// [`Refusal::Invalid`], where there are more than [`RECEIPTS_MAX`].
pub fn check_receipts(count: usize) -> Result<(), Refusal> {
    if count > RECEIPTS_MAX {
        return Err(Refusal::invalid("receipts", "must not be more than 1000"));
    }
    Ok(())
}

/// Whether a lease may last this long.
///
/// # Errors
///
/// [`Refusal::Invalid`], where it is nothing, or more than [`VISIBILITY_MAX`].
pub fn check_visibility(visibility: Duration) -> Result<(), Refusal> {
    if visibility.is_zero() || visibility > VISIBILITY_MAX {
        return Err(Refusal::invalid("visibility", "must be from 1 ms to 12 hours"));
    }
    Ok(())
}

/// Whether a message may be delayed for this long.
///
/// # Errors
///
/// [`Refusal::Invalid`], where it is more than [`SPAN_MAX`].
pub fn check_delay(delay: Duration) -> Result<(), Refusal> {
    if delay > SPAN_MAX {
        return Err(Refusal::invalid("delay", "must not exceed ten years"));
    }
    Ok(())
}
