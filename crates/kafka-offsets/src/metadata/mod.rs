#![doc = include_str!("FORMAT.md")]

mod bits;
mod codec;
mod varint;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::Completions;
pub use codec::Codec;

/// The most bytes of metadata that a broker takes unless it is told otherwise (`offset.metadata.max.bytes`).
pub const DEFAULT_LIMIT: usize = 4096;

const MAGIC: &str = "ko";
const VERSION: u8 = 1;
const CRC: usize = 4;

/// Metadata to be committed, and what it took and left.
#[must_use = "the text is to be committed together with its offset"]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Encoded {
    /// The metadata: ASCII. Empty if there is nothing beyond the commit point, or no room.
    pub text: String,
    /// How it was written down. `None` if the text is empty.
    pub codec: Option<Codec>,
    /// How many done offsets it has, those of gaps included.
    pub kept: u64,
    /// How many it had no room for: the highest. They will be done again by who takes over after a crash.
    pub dropped: u64,
}

impl Encoded {
    /// No metadata.
    pub const fn none() -> Self {
        Self { text: String::new(), codec: None, kept: 0, dropped: 0 }
    }
}

/// Why metadata was not used. Nothing but its commit's offset is known then: what is done beyond will be done again.
///
/// To be counted and logged. It is no reason to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ignored {
    /// Somebody else wrote it.
    #[error("the commit's metadata was written by other software: is there another consumer with this group's name?")]
    Foreign,
    /// A later version of this crate wrote it.
    #[error("the commit's metadata has version {version}, and this consumer reads up to 1: upgrade it")]
    Newer {
        /// The version of the format.
        version: u8,
    },
    /// It was made for another committed offset: somebody has copied it.
    #[error(
        "the commit's metadata was made for offset {made_for}, but stands beside {committed}: who changed the commit?"
    )]
    OtherOffset {
        /// The offset that it was made for.
        made_for: i64,
        /// The offset that it was found with.
        committed: i64,
    },
    /// It begins like ours, but is cut off or changed.
    #[error("the commit's metadata is damaged ({what}): it was changed or cut off after it was written")]
    Damaged {
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Writes down `completions` in at most `limit` bytes, by the codec that takes most of them, and of those by the shortest. Where there
/// is no room for all, the highest offsets are left out.
pub fn encode(completions: &Completions, limit: usize) -> Encoded {
    let candidates = Codec::ALL.into_iter().map(|codec| encode_as(codec, completions, limit));
    // Of equals, `reduce` keeps the first.
    candidates
        .reduce(|best, next| {
            let better = (next.kept, best.text.len()) > (best.kept, next.text.len());
            if better { next } else { best }
        })
        .unwrap_or(Encoded::none())
}

/// The same by a given codec. To compare them: [`decode`] knows by itself which it is.
pub fn encode_as(codec: Codec, completions: &Completions, limit: usize) -> Encoded {
    let all = completions.len();
    let nothing = Encoded { dropped: all, ..Encoded::none() };
    if completions.is_empty() {
        return nothing;
    }
    let mut text = format!("{MAGIC}{VERSION}{}", codec.letter());
    let mut body = Vec::new();
    varint::put(&mut body, completions.commit_point().unsigned_abs());
    // Four characters for each three bytes.
    let room = (limit.saturating_sub(text.len()) as u128 * 3 / 4) as usize;
    let Some((values, kept)) =
        room.checked_sub(body.len() + CRC).and_then(|room| codec::write(codec, completions, room))
    else {
        return nothing;
    };
    body.extend(values);
    body.extend(checksum(&text, &body));
    URL_SAFE_NO_PAD.encode_string(body, &mut text);
    Encoded { text, codec: Some(codec), kept, dropped: all - kept }
}

/// Reads the metadata of a commit whose offset is `committed`. Empty metadata says that nothing is done beyond.
///
/// Whatever the text, no offset is taken for done that was not when it was written: see the format's checksum.
///
/// # Errors
///
/// [`Ignored`] if it is not ours, not readable, or not for this commit: go on with [`Completions::none`].
pub fn decode(committed: i64, text: &str) -> Result<Completions, Ignored> {
    if text.is_empty() {
        return Ok(Completions::none(committed));
    }
    let damaged = |what| Ignored::Damaged { what };
    let (version, rest) = match text.strip_prefix(MAGIC).map(str::as_bytes) {
        Some([version @ b'1'..=b'9', rest @ ..]) => (version - b'0', rest),
        _ => return Err(Ignored::Foreign),
    };
    if version > VERSION {
        return Err(Ignored::Newer { version });
    }
    let [letter, encoded @ ..] = rest else { return Err(damaged("no codec")) };
    let codec =
        Codec::ALL.into_iter().find(|codec| codec.letter() == char::from(*letter)).ok_or(damaged("no such codec"))?;
    let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| damaged("not base64url"))?;
    let (mut body, crc) = bytes.split_last_chunk::<CRC>().ok_or(damaged("too short"))?;
    if checksum(&text[..MAGIC.len() + 2], body) != *crc {
        return Err(damaged("its checksum is another"));
    }
    let made_for = varint::take(&mut body).and_then(|offset| i64::try_from(offset).ok()).ok_or(damaged("no offset"))?;
    if made_for != committed {
        return Err(Ignored::OtherOffset { made_for, committed });
    }
    codec::read(codec, committed, body).ok_or(damaged("not as the format says"))
}

/// Of the text before the base64url, and of the bytes that go into it.
fn checksum(head: &str, body: &[u8]) -> [u8; CRC] {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head.as_bytes());
    crc.update(body);
    crc.finalize().to_be_bytes()
}
