//! The transitions: one script each, atomic on its node.
//!
//! A script is made of the files that it needs, so that each transition is one call. They take
//! their time from Redis and answer a list that begins with a word.

use redis::Script;

/// Puts a script together.
macro_rules! script {
    ($($file:literal),+) => {
        Script::new(concat!($(include_str!(concat!("scripts/", $file, ".lua")), "\n"),+))
    };
}

/// All of them.
pub(super) struct Scripts {
    pub(super) configure: Script,
    pub(super) publish: Script,
    pub(super) receive: Script,
    pub(super) settle: Script,
    pub(super) dead: Script,
    pub(super) redrive: Script,
    pub(super) inspect: Script,
    pub(super) delete: Script,
    pub(super) take: Script,
    pub(super) adopt: Script,
    pub(super) finish: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            configure: script!("base", "group", "timers", "configure"),
            publish: script!("base", "group", "timers", "publish"),
            receive: script!("base", "group", "timers", "receive"),
            settle: script!("base", "group", "timers", "settle"),
            dead: script!("base", "group", "timers", "dead"),
            redrive: script!("base", "group", "timers", "redrive"),
            inspect: script!("base", "group", "timers", "inspect"),
            delete: script!("base", "group", "forget", "delete"),
            take: script!("base", "group", "timers", "forget", "take"),
            adopt: script!("base", "group", "timers", "adopt"),
            finish: script!("base", "finish"),
        }
    }
}
