//! The two ways to write down which offsets are done, each with its parameters fitted to the case, and cut where there is no
//! room for more.

use super::bits::{Reader, Writer, exp_golomb_len, rice_len};
use super::varint;
use crate::Completions;

/// The highest parameter of either code.
const MAX_K: u32 = 31;

/// How the completions are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// `g`: how many offsets are done before each that is not, in Rice codes. Best where single offsets at random are open; with
    /// the parameter 0 it is a plain bit set.
    Gaps,
    /// `r`: the lengths of runs, open and done by turns, in exponential Golomb codes. Best where open or done ones
    /// come in heaps, and where only few are done.
    Runs,
}

impl Codec {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Gaps, Self::Runs];

    /// The letter that stands for it.
    pub const fn letter(self) -> char {
        match self {
            Self::Gaps => 'g',
            Self::Runs => 'r',
        }
    }
}

/// Parameters, number of values and values, in `room` bytes at most; and how many done offsets that covers. `None` if
/// nothing fits.
pub(super) fn write(codec: Codec, completions: &Completions, room: usize) -> Option<(Vec<u8>, u64)> {
    // A value has one bit at the least: no more of them than that are looked at.
    let most = room.saturating_mul(8);
    let mut values: Vec<u64> = match codec {
        Codec::Gaps => gaps(completions).take(most).collect(),
        Codec::Runs => runs(completions).take(most).collect(),
    };
    let kinds = codec.kinds();
    let head = kinds + varint::len((values.len() / kinds) as u64);
    let bits = room.checked_sub(head)?.saturating_mul(8) as u64;

    // The parameters that fit all best need not be those that fit best what is left after a cut.
    let mut ks = codec.fit(&values);
    let mut kept = codec.fitting(&values, ks, bits);
    if kept < values.len() {
        let again = codec.fit(&values[..kept]);
        let more = codec.fitting(&values, again, bits);
        if more > kept {
            (ks, kept) = (again, more);
        }
    }
    values.truncate(kept);

    let mut writer = Writer::default();
    let mut done = 0;
    for (nth, &value) in values.iter().enumerate() {
        match codec {
            Codec::Gaps => {
                done += value;
                writer.rice(value, ks[0]);
            }
            Codec::Runs => {
                done += if nth % 2 == 1 { value + 1 } else { 0 };
                writer.exp_golomb(value, ks[nth % 2]);
            }
        }
    }
    let mut bytes: Vec<u8> = ks[..kinds].iter().map(|k| *k as u8).collect();
    varint::put(&mut bytes, (kept / kinds) as u64);
    bytes.extend(writer.into_bytes());
    (done > 0).then_some((bytes, done))
}

/// Reads what [`write`] wrote. `None` where it would not have written that.
pub(super) fn read(codec: Codec, commit_point: i64, mut bytes: &[u8]) -> Option<Completions> {
    let mut ks = [0; 2];
    for k in &mut ks[..codec.kinds()] {
        *k = u32::from(*bytes.split_off_first()?);
        if *k > MAX_K {
            return None;
        }
    }
    let count = varint::take(&mut bytes)?;
    let mut bits = Reader::new(bytes);
    let mut completions = Completions::none(commit_point);
    let mut at = commit_point.checked_add(1)?;
    for nth in 0..count {
        let (start, end) = match codec {
            Codec::Gaps => {
                // The open offset that ended the gap before.
                let start = if nth == 0 { at } else { at.checked_add(1)? };
                (start, start.checked_add_unsigned(bits.rice(ks[0])?)?)
            }
            Codec::Runs => {
                let open = bits.exp_golomb(ks[0])?.checked_add(u64::from(nth > 0))?;
                let done = bits.exp_golomb(ks[1])?.checked_add(1)?;
                let start = at.checked_add_unsigned(open)?;
                (start, start.checked_add_unsigned(done)?)
            }
        };
        if start < end {
            completions.add(start..end);
        } else if nth + 1 == count {
            return None; // It ends with one that is done.
        }
        at = end;
    }
    let filled = bits.left() < 8 && bits.bits(bits.left() as u32)? == 0;
    (filled && count > 0).then_some(completions)
}

/// How many done offsets stand before each open one beyond the commit point; at last, how many after the last open one.
fn gaps(completions: &Completions) -> impl Iterator<Item = u64> + '_ {
    let mut after = completions.commit_point() + 1;
    completions.runs().iter().enumerate().flat_map(move |(nth, run)| {
        // The first open offset after a run has been counted with that run.
        let open = run.start.abs_diff(after) - u64::from(nth > 0);
        after = run.end;
        (0..open).map(|_| 0).chain([run.end.abs_diff(run.start)])
    })
}

/// The lengths of runs less one, open and done by turns; the first open run begins with the commit point.
fn runs(completions: &Completions) -> impl Iterator<Item = u64> + '_ {
    let mut after = completions.commit_point();
    completions.runs().iter().flat_map(move |run| {
        let open = run.start.abs_diff(after);
        after = run.end;
        [open - 1, run.end.abs_diff(run.start) - 1]
    })
}

impl Codec {
    /// Values of how many kinds follow one another by turns, each with a parameter of its own.
    const fn kinds(self) -> usize {
        match self {
            Self::Gaps => 1,
            Self::Runs => 2,
        }
    }

    fn cost(self, value: u64, k: u32) -> u64 {
        match self {
            Self::Gaps => rice_len(value, k),
            Self::Runs => exp_golomb_len(value, k),
        }
    }

    /// The parameters with which `values` take the least room, or nearly so.
    fn fit(self, values: &[u64]) -> [u32; 2] {
        let mut ks = [0; 2];
        for (kind, best) in ks[..self.kinds()].iter_mut().enumerate() {
            let values = || values.iter().skip(kind).step_by(self.kinds());
            let cost = |k| values().map(|value| self.cost(*value, k)).sum::<u64>();
            // From the mean number of binary digits, which no single huge value moves far, downhill.
            let digits: u64 = values().map(|value| u64::from(64 - value.leading_zeros())).sum();
            let mut k = (digits / values().count().max(1) as u64).min(u64::from(MAX_K)) as u32;
            let mut least = cost(k);
            for step in [-1, 1] {
                while let Some(next) = k.checked_add_signed(step).filter(|k| *k <= MAX_K) {
                    let costs = cost(next);
                    if costs >= least {
                        break;
                    }
                    (k, least) = (next, costs);
                }
            }
            *best = k;
        }
        ks
    }

    /// How many of `values` can be written with `bits`, so that the last of them is of done offsets.
    fn fitting(self, values: &[u64], ks: [u32; 2], bits: u64) -> usize {
        let mut left = bits;
        let fit = values.iter().enumerate().take_while(|(nth, value)| {
            let rest = left.checked_sub(self.cost(**value, ks[nth % self.kinds()]));
            left = rest.unwrap_or(0);
            rest.is_some()
        });
        let fit = fit.count();
        match self {
            Self::Gaps => values[..fit].iter().rposition(|value| *value > 0).map_or(0, |last| last + 1),
            Self::Runs => fit / 2 * 2,
        }
    }
}
