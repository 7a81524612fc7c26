//! What holds of the metadata whatever it is given: for proptest, and for the fuzz target in `fuzz/`.

#![allow(clippy::unwrap_used)] // These are assertions.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kafka_offsets::metadata::{decode, encode, encode_as};
use kafka_offsets::{Codec, Completions, Ignored};

/// Takes bytes for whatever they could be: a text, a body that lacks its checksum, a set of completions to be written and damaged.
pub fn all(bytes: &[u8]) {
    let [a, b, rest @ ..] = bytes else { return };
    let committed = i64::from(*a) << (b % 56);
    any_text(committed, &String::from_utf8_lossy(bytes));
    any_text(committed, &format!("ko1{}", String::from_utf8_lossy(rest)));
    any_body(bytes);
    any_body(rest);

    let completions = completions(committed, rest);
    written(&completions, rest.len() + usize::from(*b));
    written(&completions, 700);
    damaged(&completions, usize::from(*a), *b);
}

/// Runs out of bytes: the length of an open run, and of a done one.
pub fn completions(committed: i64, bytes: &[u8]) -> Completions {
    let length = |byte: u8| 1 + (i64::from(byte & 15) << (byte >> 4 << 1));
    let mut at = committed;
    let runs = bytes.chunks_exact(2).map(|pair| {
        let start = at + length(pair[0]);
        at = start + length(pair[1]);
        start..at
    });
    Completions::new(committed, runs)
}

/// What is read was written, for that offset, with that checksum, and is in order.
pub fn any_text(committed: i64, text: &str) {
    let Ok(completions) = decode(committed, text) else { return };
    assert_eq!(completions.commit_point(), committed.max(0));
    if text.is_empty() {
        return assert!(completions.is_empty());
    }
    let bytes = URL_SAFE_NO_PAD.decode(&text[4..]).unwrap();
    let (body, crc) = bytes.split_last_chunk::<4>().unwrap();
    assert_eq!(crc32fast::hash(&[&text.as_bytes()[..4], body].concat()).to_be_bytes(), *crc);
    assert!(!completions.is_empty());
    let mut after = committed;
    for run in completions.runs() {
        assert!(after < run.start && run.start < run.end, "{completions:?}");
        after = run.end;
    }
    written(&completions, 700);
}

/// The same for a body to which the right checksum is added.
pub fn any_body(body: &[u8]) {
    for codec in Codec::ALL {
        let text = with_checksum(codec, body);
        if let Err(Ignored::OtherOffset { made_for, .. }) = decode(-1, &text) {
            any_text(made_for, &text);
        }
    }
}

pub fn with_checksum(codec: Codec, body: &[u8]) -> String {
    let head = format!("ko1{}", codec.letter());
    let crc = crc32fast::hash(&[head.as_bytes(), body].concat()).to_be_bytes();
    head + &URL_SAFE_NO_PAD.encode([body, &crc].concat())
}

/// What is written is within the limit, and is read as it was, but for the highest offsets.
pub fn written(completions: &Completions, limit: usize) {
    let best = encode(completions, limit);
    for codec in Codec::ALL {
        let encoded = encode_as(codec, completions, limit);
        assert!(encoded.text.len() <= limit);
        assert!(encoded.kept <= best.kept);
        assert_eq!(encoded.kept + encoded.dropped, completions.len());

        let decoded = decode(completions.commit_point(), &encoded.text).unwrap();
        assert_eq!(decoded.len(), encoded.kept);
        let mut head = completions.clone();
        head.truncate(decoded.end());
        assert_eq!(decoded, head);
        if let Some(other) = completions.commit_point().checked_add(1).filter(|_| encoded.kept > 0) {
            let made_for = completions.commit_point();
            let ignored = Err(Ignored::OtherOffset { made_for, committed: other });
            assert_eq!(decode(other, &encoded.text), ignored);
        }
    }
}

/// A text of which one character is another is not read.
pub fn damaged(completions: &Completions, at: usize, by: u8) {
    let mut text = encode(completions, 4096).text.into_bytes();
    if text.is_empty() {
        return;
    }
    let at = at % text.len();
    if text[at] == by & 0x7f {
        return;
    }
    text[at] = by & 0x7f;
    let text = String::from_utf8(text).unwrap();
    assert!(decode(completions.commit_point(), &text).is_err(), "{text}");
}
