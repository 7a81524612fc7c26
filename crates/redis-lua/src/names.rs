//! Checked names, and the keys that follow from them.
//!
//! All keys of one name lie under one hash tag, the part of a key in braces, so that a script may touch them together
//! on Redis Cluster too: `orders/42` is kept at `{orders/42}`, `{orders/42}:fence`, and so on. A name may bring a tag
//! of its own, as `{tenant7}:a` does; then names with the same tag may meet in one script.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::sync::Arc;

use redis::{RedisWrite, ToRedisArgs, ToSingleRedisArg};
use thiserror::Error;

/// The name of a lock, a semaphore, a queue: what the user calls it.
///
/// 1 to 1,024 bytes of printable text: spaces and any script are fine, control characters are not. Braces only as one
/// tag with something in it and something beside it: `{tenant7}:a`. Cloning is cheap.
///
/// ```
/// # use redis_lua::Name;
/// let plain = Name::new("orders/42")?;
/// assert_eq!(plain.key("fence").to_string(), "{orders/42}:fence");
///
/// let tagged = Name::new("{tenant7}:a")?;
/// assert_eq!(tagged.key("fence").to_string(), "{tenant7}:a:fence");
/// assert_eq!(tagged.slot_tag(), "tenant7");
/// # Ok::<_, redis_lua::NameError>(())
/// ```
#[derive(Clone)]
pub struct Name {
    /// The main key: the name itself if it brings its tag, else the name in braces.
    key: Arc<str>,
    own_tag: bool,
}

impl Name {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// What follows the last colon of keys that strategies derive from a name. A name with a tag of its own must not
    /// end so: `{a}:fence` is where the fencing counter of the name `a` lives.
    pub const RESERVED: &[&str] = &[
        "alive", "dead", "delayed", "due", "fence", "holder", "holders", "lanes", "left", "limit", "meta", "permits",
        "queue", "readers", "result", "seen", "token", "waiters", "waiting", "writer",
    ];

    /// Checks the name.
    ///
    /// # Errors
    /// [`NameError`], whose text says what to change.
    pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
        let name = name.as_ref();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > Self::MAX_LEN {
            return Err(NameError::TooLong { bytes: name.len() });
        }
        if let Some((at, character)) = name.char_indices().find(|(_, c)| is_line_or_control(*c)) {
            return Err(NameError::Control { name: name.into(), character, at });
        }
        let tag = match (name.find('{'), name.find('}')) {
            (None, None) => return Ok(Self { key: format!("{{{name}}}").into(), own_tag: false }),
            (Some(open), Some(close)) if open + 1 < close => &name[open..=close],
            _ => return Err(NameError::Braces { name: name.into() }),
        };
        let one_tag = name.matches(['{', '}']).count() == 2;
        if !one_tag {
            return Err(NameError::Braces { name: name.into() });
        }
        if tag.len() == name.len() {
            return Err(NameError::OnlyTag { name: name.into() });
        }
        if let Some((_, end)) = name.rsplit_once(':')
            && let Some(word) = Self::RESERVED.iter().find(|word| **word == end)
        {
            return Err(NameError::Reserved { name: name.into(), word });
        }
        Ok(Self { key: name.into(), own_tag: true })
    }

    /// The name as the user gave it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        if self.own_tag { &self.key } else { &self.key[1..self.key.len() - 1] }
    }

    /// The main key as text: `{orders/42}`.
    #[must_use]
    pub fn as_key(&self) -> &str {
        &self.key
    }

    /// A key beside the main one: `key("fence")` is `{orders/42}:fence`. Allocates nothing.
    #[must_use]
    pub fn key<'a>(&'a self, suffix: &'a str) -> Key<'a> {
        Key { base: &self.key, suffix }
    }

    /// What decides the slot of all keys of this name on Redis Cluster. Names with equal tags may meet in one script.
    #[must_use]
    pub fn slot_tag(&self) -> &str {
        slot_tag(&self.key)
    }

    /// The slot of all keys of this name on Redis Cluster: to group many names before a batch is sent.
    #[must_use]
    pub fn slot(&self) -> u16 {
        slot(self.key.as_bytes())
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// By the main key: a total order that all processes agree on, as taking several locks wants it.
impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl TryFrom<&str> for Name {
    type Error = NameError;

    fn try_from(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

/// A key, as a script gets it in KEYS: of a [`Name`], or [any other](Key::raw). Borrowed, and free to copy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    base: &'a str,
    suffix: &'a str,
}

impl<'a> Key<'a> {
    /// A key that exists for other reasons than a [`Name`], as it is.
    #[must_use]
    pub const fn raw(key: &'a str) -> Self {
        Self { base: key, suffix: "" }
    }

    /// What decides the slot on Redis Cluster: what the first pair of braces holds, else the whole key.
    #[must_use]
    pub fn slot_tag(&self) -> &'a str {
        slot_tag(self.base)
    }
}

impl<'a> From<&'a Name> for Key<'a> {
    fn from(name: &'a Name) -> Self {
        Self { base: &name.key, suffix: "" }
    }
}

impl<'a> From<&Key<'a>> for Key<'a> {
    fn from(key: &Key<'a>) -> Self {
        *key
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base)?;
        if self.suffix.is_empty() { Ok(()) } else { write!(f, ":{}", self.suffix) }
    }
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl ToRedisArgs for Key<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        if self.suffix.is_empty() {
            out.write_arg(self.base.as_bytes());
        } else {
            let mut arg = out.writer_for_next_arg();
            for part in [self.base, ":", self.suffix] {
                let _ = arg.write_all(part.as_bytes()); // Into memory: it cannot fail.
            }
        }
    }
}

impl ToSingleRedisArg for Key<'_> {}

/// Why a text cannot be a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing was given.
    #[error("the name is empty: give it at least one character")]
    Empty,
    /// Longer than [`Name::MAX_LEN`].
    #[error("the name is {bytes} bytes long: 1,024 are allowed; shorten it, or use a hash of it")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// A newline, a NUL, or such.
    #[error("the name {name:?} has the control character {character:?} at byte {at}: take it out")]
    Control {
        /// What was given.
        name: Box<str>,
        /// What is in it.
        character: char,
        /// Where, in bytes.
        at: usize,
    },
    /// Braces that are not one tag with something in it.
    #[error(
        "the braces of the name {name:?} are not one hash tag: leave them out, or have exactly one pair with text \
         inside, as in \"{{tenant7}}:a\""
    )]
    Braces {
        /// What was given.
        name: Box<str>,
    },
    /// `{a}` would be the same lock as `a`.
    #[error(
        "the name {name:?} is nothing but a hash tag, and would be the same as the one without braces: leave the \
         braces out, or add text beside them, as in \"{{tenant7}}:a\""
    )]
    OnlyTag {
        /// What was given.
        name: Box<str>,
    },
    /// It ends as one of the keys beside another name does.
    #[error("the name {name:?} ends in \":{word}\", as keys kept beside a name do: choose another ending")]
    Reserved {
        /// What was given.
        name: Box<str>,
        /// Its ending.
        word: &'static str,
    },
}

fn is_line_or_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// As <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags> has it.
fn slot_tag(key: &str) -> &str {
    if let Some((_, rest)) = key.split_once('{')
        && let Some((tag, _)) = rest.split_once('}')
        && !tag.is_empty()
    {
        return tag;
    }
    key
}

/// The slot of any key.
pub(crate) fn slot(key: &[u8]) -> u16 {
    let tag = match key.iter().position(|byte| *byte == b'{').map(|open| &key[open + 1..]) {
        Some(rest) => match rest.iter().position(|byte| *byte == b'}') {
            Some(close) if close > 0 => &rest[..close],
            _ => key,
        },
        None => key,
    };
    crc16(tag) % 16384
}

/// CRC-16/XMODEM, bit by bit: slots are asked for rarely.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_of_a_name_share_its_tag() {
        let name = Name::new("orders/42").unwrap();
        assert_eq!(name.as_str(), "orders/42");
        assert_eq!(name.as_key(), "{orders/42}");
        assert_eq!(name.key("fence").to_string(), "{orders/42}:fence");
        assert_eq!((name.slot_tag(), name.key("fence").slot_tag()), ("orders/42", "orders/42"));
        assert_eq!(name.to_string(), "orders/42");
        assert_eq!(format!("{name:?}"), "\"orders/42\"");
    }

    #[test]
    fn a_name_keeps_the_tag_it_brings() {
        for given in ["{tenant7}:a", "a:{tenant7}", "a{tenant7}b"] {
            let name = Name::new(given).unwrap();
            assert_eq!((name.as_str(), name.as_key(), name.slot_tag()), (given, given, "tenant7"));
            assert_eq!(name.key("x").to_string(), format!("{given}:x"));
        }
    }

    #[test]
    fn spaces_and_other_scripts_are_fine() {
        for given in [" ", "a b", "заказ 42", "注文", "🔒", "a:b/c?d=e", "\"'\\", &"x".repeat(1024)] {
            assert_eq!(Name::new(given).unwrap().as_str(), given);
        }
    }

    #[test]
    fn what_cannot_be_a_name_is_refused_with_a_way_out() {
        let refused = |given: &str| Name::new(given).unwrap_err();
        assert_eq!(refused(""), NameError::Empty);
        assert_eq!(refused(&"x".repeat(10_240)), NameError::TooLong { bytes: 10_240 });
        for given in ["a\nb", "a\0", "\t", "a\u{7f}", "a\u{85}", "a\u{2028}b"] {
            assert!(matches!(refused(given), NameError::Control { .. }), "{given:?}");
        }
        for given in ["{", "}", "{}", "a{}", "{a", "a}", "}{", "}a{", "{a}{b}", "{{a}}", "{a}b}", "{}{a}", "{a}{}"] {
            assert!(matches!(refused(given), NameError::Braces { .. }), "{given:?}");
        }
        assert!(matches!(refused("{a}"), NameError::OnlyTag { .. }));
        assert!(matches!(refused("{a}:fence"), NameError::Reserved { word: "fence", .. }));
        assert!(refused("{a}").to_string().contains("leave the braces out"));
        assert!(!refused("a\nb").to_string().contains('\n'), "one line, even so");
    }

    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(Name::new("123456789").unwrap().slot(), 0x31C3);
        assert_eq!(Name::new("{user1000}.following").unwrap().slot(), Name::new("user1000").unwrap().slot());
        assert_eq!(Name::new("foo").unwrap().slot(), 12182);
    }

    #[test]
    fn a_raw_key_has_the_slot_that_redis_gives_it() {
        for (key, tag) in [("a", "a"), ("{a}b", "a"), ("{}b", "{}b"), ("x{a}{b}", "a"), ("{a", "{a"), ("{{a}}", "{a")] {
            assert_eq!(Key::raw(key).slot_tag(), tag);
        }
    }

    #[test]
    fn a_key_is_one_argument() {
        let name = Name::new("a b").unwrap();
        let written = |key: Key<'_>| key.to_redis_args();
        assert_eq!(written((&name).into()), [b"{a b}".to_vec()]);
        assert_eq!(written(name.key("fence")), [b"{a b}:fence".to_vec()]);
    }

    proptest! {
        #[test]
        fn no_two_names_share_a_key(a in "[ab:{}]{1,6}(:fence)?", b in "[ab:{}]{1,6}(:fence)?") {
            if let (Ok(a), Ok(b)) = (Name::new(&a), Name::new(&b)) && a != b {
                let all = |n: &Name| [n.as_key().to_owned(), n.key("fence").to_string(), n.key("token").to_string()];
                for key in all(&a) {
                    prop_assert!(!all(&b).contains(&key), "{a:?} and {b:?} both use {key}");
                }
            }
        }

        #[test]
        fn any_text_is_a_name_or_an_error_and_never_a_panic(text in "\\PC{0,40}|.{0,40}") {
            match Name::new(&text) {
                Ok(name) => {
                    prop_assert_eq!(name.as_str(), &text);
                    let beside = name.key("x").to_string();
                    prop_assert_eq!(slot_tag(&beside), name.slot_tag());
                    prop_assert_eq!(slot(beside.as_bytes()), name.slot());
                }
                Err(why) => prop_assert!(!why.to_string().contains('\n')),
            }
        }
    }
}
