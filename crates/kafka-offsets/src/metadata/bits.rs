//! Bits, most significant first, and the two codes for numbers that the codecs use.

/// Rice codes with more ones than this are escaped, so that one huge number among small ones costs little.
pub(super) const ESCAPE: u64 = 24;

/// How many bits [`Writer::exp_golomb`] takes.
pub(super) fn exp_golomb_len(value: u64, k: u32) -> u64 {
    let zeros = (value + (1 << k)).ilog2() - k;
    u64::from(2 * zeros + 1 + k)
}

/// How many bits [`Writer::rice`] takes.
pub(super) fn rice_len(value: u64, k: u32) -> u64 {
    match value >> k {
        ones if ones < ESCAPE => ones + 1 + u64::from(k),
        _ => ESCAPE + exp_golomb_len(value - (ESCAPE << k), k),
    }
}

#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// How many bits of the last byte are still free.
    free: u32,
}

impl Writer {
    /// The `count` lowest bits of `value`, at most 64.
    pub fn bits(&mut self, value: u64, mut count: u32) {
        while count > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let now = count.min(self.free);
            let part = (value >> (count - now)) as u8 & (0xff >> (8 - now));
            if let Some(last) = self.bytes.last_mut() {
                *last |= part << (self.free - now);
            }
            self.free -= now;
            count -= now;
        }
    }

    /// Exponential Golomb code of order `k`, `value` < 2⁶³: with `w = value + 2ᵏ`, one zero for each of its binary digits beyond
    /// the first k + 1, then `w` itself.
    pub fn exp_golomb(&mut self, value: u64, k: u32) {
        let w = value + (1 << k);
        let zeros = w.ilog2() - k;
        self.bits(0, zeros);
        self.bits(w, zeros + k + 1);
    }

    /// Rice code of parameter `k`, `value` < 2⁶³: `value >> k` ones, a zero, the k lowest bits. From 24 ones on: 24 ones, and the
    /// exponential Golomb code of what is beyond 24 · 2ᵏ.
    pub fn rice(&mut self, value: u64, k: u32) {
        match value >> k {
            ones if ones < ESCAPE => {
                self.bits((1 << (ones + 1)) - 2, ones as u32 + 1);
                self.bits(value, k);
            }
            _ => {
                self.bits((1 << ESCAPE) - 1, ESCAPE as u32);
                self.exp_golomb(value - (ESCAPE << k), k);
            }
        }
    }

    /// The bytes; the last is filled up with zeros.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads what [`Writer`] wrote. `None` where there is too little, or nothing that it would write.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn left(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }

    pub fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    pub fn bits(&mut self, count: u32) -> Option<u64> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u64::from(self.bit()?);
        }
        Some(value)
    }

    pub fn exp_golomb(&mut self, k: u32) -> Option<u64> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
        }
        if zeros + k > 63 {
            return None;
        }
        let w = 1 << (zeros + k) | self.bits(zeros + k)?;
        Some(w - (1 << k))
    }

    pub fn rice(&mut self, k: u32) -> Option<u64> {
        let mut ones = 0;
        while ones < ESCAPE && self.bit()? {
            ones += 1;
        }
        if ones < ESCAPE { Some(ones << k | self.bits(k)?) } else { self.exp_golomb(k)?.checked_add(ESCAPE << k) }
    }
}
