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
    pub(super) account: Script,
    pub(super) remind: Script,
    pub(super) revive: Script,
    pub(super) raise: Script,
    pub(super) restored: Script,
    pub(super) export: Script,
    pub(super) missing: Script,
    pub(super) copy: Script,
    pub(super) carry: Script,
    pub(super) remember: Script,
    pub(super) thin: Script,
    pub(super) recall: Script,
    pub(super) renew: Script,
    pub(super) forget_shadow: Script,
    pub(super) seal: Script,
    pub(super) erase: Script,
    /// By itself: what it is told differs from the others.
    pub(super) remark: Script,
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
            adopt: script!("base", "group", "timers", "arrive", "adopt"),
            finish: script!("base", "finish"),
            account: script!("base", "group", "account"),
            remind: script!("base", "group", "timers", "arrive", "bound", "remind"),
            revive: script!("base", "group", "timers", "arrive", "bound", "revive"),
            raise: script!("base", "raise"),
            restored: script!("base", "restored"),
            export: script!("base", "export"),
            missing: script!("base", "missing"),
            copy: script!("base", "shadow", "sealed", "copy"),
            carry: script!("base", "shadow", "sealed", "carry"),
            remember: script!("base", "shadow", "sealed", "remember"),
            thin: script!("base", "shadow", "sealed", "thin"),
            recall: script!("base", "shadow", "recall"),
            renew: script!("base", "shadow", "renew"),
            forget_shadow: script!("base", "shadow", "forget_shadow"),
            seal: script!("base", "shadow", "seal"),
            erase: script!("base", "erase"),
            remark: script!("remark"),
        }
    }
}
