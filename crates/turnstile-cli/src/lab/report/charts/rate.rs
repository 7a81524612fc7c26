//! How many a second, over time: a bar for each tenth of a second, or for several where they are many.

use super::{HEIGHT, Time, figure, heights};
use crate::lab::figures::Rate;
use crate::lab::report::axis::Linear;
use crate::lab::report::svg::Plot;
use crate::lab::tally::Tally;
use crate::lab::words::count;

/// The most bars that are drawn.
const BARS: usize = 120;

pub fn of(rate: &Rate, id: &str) -> Option<String> {
    let (begin, tenths) = rate.tally.whole();
    let together = tenths.len().div_ceil(BARS).max(1);
    let each = Tally::EACH * together as u64;
    let a_second =
        |tenths: &[u64]| tenths.iter().sum::<u64>() as f64 * 1e9 / (Tally::EACH * tenths.len() as u64) as f64;
    // A last one that is not whole is left out, unless it is all there is.
    let whole = tenths.chunks(together).filter(|chunk| chunk.len() == together);
    let rates: Vec<f64> = whole.map(a_second).collect();
    let most = rates.iter().copied().max_by(f64::total_cmp)?;
    let least = rates.iter().copied().min_by(f64::total_cmp)?;
    let axis = Linear::new(most, 4, true);
    let time = Time::new(begin, begin + each * rates.len() as u64);
    let mut plot = Plot::new(HEIGHT);
    time.draw(&mut plot);
    heights(&mut plot, &axis, HEIGHT, "");
    let width = 1.0 / rates.len() as f64;
    for (nth, value) in rates.iter().enumerate().filter(|(_, value)| **value > 0.0) {
        let height = axis.place(*value) * HEIGHT;
        plot.bar("c0", nth as f64 * width, width * 0.94, HEIGHT - height, height);
    }
    let happened = time.mark(&mut plot, &rate.marks);
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    let [least, most, mean] = [least, most, mean].map(|rate| count(rate.round() as u64));
    let seen = format!("{} from {least} to {most}, {mean} on average.{happened}", rate.of);
    let note = format!("{}, in each {} ms; {mean} on average.", rate.of, each / 1_000_000);
    Some(figure(&rate.title, &note, &plot.picture(id, &rate.title, &seen), ""))
}
