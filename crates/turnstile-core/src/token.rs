//! Fencing tokens: the numbers that let a resource refuse a holder from the past.

use std::fmt;

/// A number that strictly rises with each new grant of the same name.
///
/// Send it along with each side effect, and let the resource refuse a token older than the newest it has seen:
/// a holder that was paused past its deadline, and does not know it yet, then does no harm. If what you write depends
/// on what you read, show the resource your token before the read: it cannot refuse an older one before it saw a newer.
/// (Kleppmann, *How to do distributed locking*, 2016.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(u64);

impl FencingToken {
    /// The largest token that is handed out: 2⁵³ − 1, the largest that Lua and JSON keep exactly.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The token of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, to be stored or compared elsewhere.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
