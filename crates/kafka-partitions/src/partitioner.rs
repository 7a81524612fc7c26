//! Which partition a key goes to, as the clients in use compute it.
//!
//! Two clients that write the same keys with different partitioners break the order of each key, in silence. So these are
//! those of the Java client and of librdkafka, bit by bit, and are tested against both.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::UnknownPartitioner;

/// A way from a key to a partition. Each but `random` sends the same key to the same partition, as long as the number of
/// partitions stays the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Partitioner {
    /// MurmurHash2, any partition where there is no key: the Java client's default, librdkafka's `murmur2_random`.
    #[default]
    Murmur2Random,
    /// MurmurHash2; no key is taken for an empty one: librdkafka's `murmur2`.
    Murmur2,
    /// CRC-32, any partition where the key is missing *or empty*: librdkafka's default, `consistent_random`.
    ConsistentRandom,
    /// CRC-32; no key is taken for an empty one: librdkafka's `consistent`.
    Consistent,
    /// FNV-1a, any partition where there is no key: librdkafka's `fnv1a_random`; Sarama's default.
    #[serde(rename = "fnv1a_random")]
    Fnv1aRandom,
    /// FNV-1a; no key is taken for an empty one: librdkafka's `fnv1a`.
    Fnv1a,
}

impl Partitioner {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Murmur2Random, Self::Murmur2, Self::ConsistentRandom, Self::Consistent, Self::Fnv1aRandom, Self::Fnv1a];

    /// Its name, as librdkafka's option `partitioner` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Murmur2Random => "murmur2_random",
            Self::Murmur2 => "murmur2",
            Self::ConsistentRandom => "consistent_random",
            Self::Consistent => "consistent",
            Self::Fnv1aRandom => "fnv1a_random",
            Self::Fnv1a => "fnv1a",
        }
    }

    /// The partition of this key among so many; `None` where any will do, or where there are no partitions at all.
    ///
    /// ```
    /// use kafka_partitions::Partitioner;
    ///
    /// assert_eq!(Partitioner::Murmur2Random.partition(Some(b"order-42"), 100), Some(24));   // as in Java
    /// assert_eq!(Partitioner::Murmur2Random.partition(None, 100), None);                    // any
    /// ```
    #[must_use]
    pub fn partition(self, key: Option<&[u8]>, partitions: i32) -> Option<i32> {
        if partitions <= 0 {
            return None;
        }
        let any = match self {
            Self::Murmur2Random | Self::Fnv1aRandom => key.is_none(),
            Self::ConsistentRandom => key.is_none_or(<[u8]>::is_empty),
            Self::Murmur2 | Self::Consistent | Self::Fnv1a => false,
        };
        if any {
            return None;
        }
        let key = key.unwrap_or_default();
        // librdkafka and Java both clear the sign of murmur2; the others are taken as unsigned.
        let hash = match self {
            Self::Murmur2Random | Self::Murmur2 => murmur2(key) & 0x7fff_ffff,
            Self::ConsistentRandom | Self::Consistent => crc32fast::hash(key),
            Self::Fnv1aRandom | Self::Fnv1a => fnv1a(key),
        };
        i32::try_from(hash % partitions.unsigned_abs()).ok()
    }
}

impl fmt::Display for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Partitioner {
    type Err = UnknownPartitioner;

    fn from_str(name: &str) -> Result<Self, UnknownPartitioner> {
        Self::ALL.into_iter().find(|one| one.name() == name).ok_or_else(|| UnknownPartitioner(name.to_owned()))
    }
}

/// MurmurHash2 (Austin Appleby) with the seed of Kafka's `Utils.murmur2`.
#[must_use]
pub fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    // Kafka has the length as an `int`; no key comes near its end.
    let mut hash = SEED ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = word.iter().rev().fold(0_u32, |k, byte| (k << 8) | u32::from(*byte)).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0_u32, |k, byte| (k << 8) | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// FNV-1a of 32 bits, and of that the absolute value of it as a signed number, as Sarama and librdkafka have it.
#[must_use]
pub fn fnv1a(key: &[u8]) -> u32 {
    let hash = key.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash.cast_signed().unsigned_abs()
}
