//! What a soak found, as a page.

use super::page::{here, rows_of, whole, word};
use super::svg::escape;
use crate::lab::soak::{Soak, kinds};
use crate::lab::words::count;

/// The page.
pub fn of(soak: &Soak) -> String {
    let broken = soak.strategies.iter().filter(|one| !one.violations.is_empty()).count();
    let verdict = if broken == 0 { "no violation".to_owned() } else { format!("{broken} strategies broke a claim") };
    let broker = match soak.broker.is_empty() {
        true => String::new(),
        false => format!(" Over the Kafka that all share came {}.", kinds(&soak.broker)),
    };
    let intro = format!(
        "{} in {} rounds of random faults over all strategies at once, {} s, seeds from {}. {}.{broker}",
        word(broken == 0, &verdict),
        count(soak.rounds),
        count(soak.seconds),
        soak.seed,
        here()
    );
    let rows = soak.strategies.iter().map(|one| {
        let broken: String =
            one.violations.iter().map(|check| format!("{}: {}. ", check.claim, check.observed)).collect();
        let verdict = word(broken.is_empty(), if broken.is_empty() { "all histories hold" } else { "BROKEN" });
        [one.name.to_owned(), count(one.operations), kinds(&one.faults), format!("{verdict} {}", escape(&broken))]
    });
    let again = soak.again.iter().map(|again| format!("<p>Again: <code>{}</code></p>\n", escape(again)));
    let main = rows_of(["strategy", "operations", "faults", "verdict"], rows) + &again.collect::<String>();
    whole(&format!("Turnstile soak: {verdict}"), &intro, &main)
}
