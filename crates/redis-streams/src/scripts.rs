//! The scripts; those of a group begin with what they share.

use redis_lua::Script;

macro_rules! of_a_group {
    ($($name:ident = $word:literal),* $(,)?) => {$(
        pub(crate) static $name: Script = Script::new(
            concat!("queue_", $word),
            concat!(include_str!("lua/common.lua"), include_str!(concat!("lua/", $word, ".lua"))),
        );
    )*};
}

of_a_group! {
    JOIN = "join",
    BEAT = "beat",
    MOVE = "move",
    TAKE = "take",
    FETCH = "fetch",
    SETTLE = "settle",
    RECOVER = "recover",
    REPAIR = "repair",
    LEAVE = "leave",
    STATS = "stats",
}

pub(crate) static ADD: Script = Script::new("queue_add", include_str!("lua/add.lua"));
pub(crate) static TRIM: Script = Script::new("queue_trim", include_str!("lua/trim.lua"));
pub(crate) static REPLAY: Script = Script::new("queue_replay", include_str!("lua/replay.lua"));
