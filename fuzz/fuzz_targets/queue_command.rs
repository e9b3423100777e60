//! What a log or a snapshot holds is decoded or refused; what is decoded is encoded as it was, and
//! a queue that is given it goes on working.
#![no_main]

use dss_queue::{Command, NewMessage, Queue, ShardId, TopicName, UnixMillis};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok((now, command)) = Command::decode(input) {
        // Numbers have longer encodings than the one we write, so bytes are not compared.
        assert_eq!(Command::decode(&command.encode(now)).as_ref(), Ok(&(now, command.clone())));
        let mut queue = Queue::new();
        let topic = TopicName::new("t").expect("a good name");
        let messages = vec![NewMessage::new("a")];
        let publish = Command::Publish { shard: ShardId::new(1), topic, messages };
        queue.apply(UnixMillis::new(1), publish);
        queue.apply(now, command);
        assert_eq!(Queue::restore(&queue.snapshot()).as_ref(), Ok(&queue));
    }
    if let Ok(mut queue) = Queue::restore(input) {
        assert_eq!(Queue::restore(&queue.snapshot()).as_ref(), Ok(&queue));
        let next = queue.next_deadline().unwrap_or_default();
        queue.apply(next, Command::Tick);
        assert_eq!(Queue::restore(&queue.snapshot()).as_ref(), Ok(&queue));
    }
});
