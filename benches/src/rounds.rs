//! Two sides in short rounds by turns, so that whatever else the machine does meets both.

use anyhow::Result;

/// What came of the rounds of a pair.
#[derive(Debug, Clone, Copy)]
pub struct Compared {
    /// The median of our rounds.
    pub ours: f64,
    /// The median of the raw client's rounds.
    pub raw: f64,
    /// The median of ours / raw, taken round by round.
    pub ratio: f64,
    /// The quartiles of the same.
    pub quartiles: (f64, f64),
}

impl Compared {
    /// Of the rounds' pairs, ours first.
    #[must_use]
    pub fn of(pairs: &[(f64, f64)]) -> Self {
        let mut ratios: Vec<f64> = pairs.iter().map(|(ours, raw)| ours / raw).collect();
        let (mut ours, mut raw): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        Self {
            ours: quantile(&mut ours, 0.5),
            raw: quantile(&mut raw, 0.5),
            ratio: quantile(&mut ratios, 0.5),
            quartiles: (quantile(&mut ratios, 0.25), quantile(&mut ratios, 0.75)),
        }
    }
}

/// Runs `rounds` rounds of each side by turns, each side first in every other round, after one of each that does not
/// count.
///
/// # Errors
/// Those of a round.
pub async fn compare(
    rounds: usize,
    ours: impl AsyncFnMut() -> Result<f64>,
    raw: impl AsyncFnMut() -> Result<f64>,
) -> Result<Compared> {
    Ok(Compared::of(&by_turns(rounds, ours, raw).await?))
}

/// The same, and gives what came of each round: ours, then raw.
///
/// # Errors
/// Those of a round.
pub async fn by_turns<T>(
    rounds: usize,
    mut ours: impl AsyncFnMut() -> Result<T>,
    mut raw: impl AsyncFnMut() -> Result<T>,
) -> Result<Vec<(T, T)>> {
    ours().await?;
    raw().await?;
    let mut pairs = Vec::with_capacity(rounds);
    for round in 0..rounds {
        pairs.push(if round % 2 == 0 {
            (ours().await?, raw().await?)
        } else {
            let raw = raw().await?;
            (ours().await?, raw)
        });
    }
    Ok(pairs)
}

/// The median of `rounds` rounds, after one that does not count.
///
/// # Errors
/// Those of a round.
pub async fn alone(rounds: usize, mut ours: impl AsyncFnMut() -> Result<f64>) -> Result<f64> {
    ours().await?;
    let mut values = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        values.push(ours().await?);
    }
    Ok(quantile(&mut values, 0.5))
}

/// The value below which this part of them lies; sorts them. Not a number when there is none.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let mut values = [3.0, 1.0, 2.0, 5.0, 4.0];
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|part| quantile(&mut values, part)), [1.0, 2.0, 3.0, 5.0]);
        assert!(quantile(&mut [], 0.5).is_nan());
    }

    #[tokio::test]
    async fn sides_take_turns_and_the_first_round_does_not_count() {
        let order = std::cell::RefCell::new(String::new());
        let compared = compare(
            2,
            async || {
                order.borrow_mut().push('o');
                Ok(if order.borrow().len() == 1 { 100.0 } else { 3.0 })
            },
            async || {
                order.borrow_mut().push('r');
                Ok(2.0)
            },
        );
        let compared = compared.await.unwrap();
        assert_eq!(order.into_inner(), "ororro");
        assert_eq!((compared.ours, compared.raw, compared.ratio, compared.quartiles), (3.0, 2.0, 1.5, (1.5, 1.5)));
    }
}
