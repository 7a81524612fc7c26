//! The report that people read: one page that needs nothing else and asks for nothing. The table of all strategies, then for
//! each its numbers, its claims and its charts.

use std::time::SystemTime;

use super::charts;
use super::svg::escape;
use crate::lab::findings::{Check, Findings};

const STYLE: &str = include_str!("style.css");

/// The page, of phases of so many seconds.
pub fn of(seconds: u64, all: &[Findings]) -> String {
    let held: usize = all.iter().map(Findings::held).sum();
    let claims: usize = all.iter().map(|findings| findings.checks.len()).sum();
    let verdict = word(held == claims, &format!("{held} of {claims} claims held"));
    let intro = format!(
        "{verdict} of {} strategies on real servers, under contention and faults. {}; {seconds} s for each of the longer phases.",
        all.len(),
        here()
    );
    let sections: String = all.iter().map(section).collect();
    whole(&format!("Turnstile lab: {held} of {claims} claims held"), &intro, &format!("{}{sections}", table(all)))
}

/// A page that needs nothing else and asks for nothing.
pub fn whole(title: &str, intro: &str, main: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <link rel=icon href=\"data:,\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>Turnstile lab</h1>\n<p>{intro}</p>\n</header>\n<main>\n{main}</main>\n</body>\n</html>\n"
    )
}

/// What was run, when, and on what.
pub fn here() -> String {
    format!(
        "Turnstile {version}, {time}; {os} on {arch} with {cores} cores, servers and clients together{slow}",
        version = env!("CARGO_PKG_VERSION"),
        time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace('T', " ").replace('Z', " UTC"),
        os = std::env::consts::OS,
        arch = std::env::consts::ARCH,
        cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        slow = if cfg!(debug_assertions) { ", built without optimisation" } else { "" },
    )
}

pub fn word(held: bool, text: &str) -> String {
    format!("<b class={}>{text}</b>", if held { "held" } else { "broken" })
}

/// A row for each strategy.
fn table(all: &[Findings]) -> String {
    let rows = all.iter().map(|findings| {
        let numbers = findings.metrics.columns().into_iter();
        let numbers: Vec<_> = numbers.map(|(head, value)| format!("<span>{} {value}</span>", escape(head))).collect();
        let verdict = word(findings.all_held(), &findings.verdict());
        let name = findings.name;
        [
            format!("<a href=\"#{name}\">{name}</a>"),
            escape(findings.about.complexity),
            numbers.join(" · "),
            format!("{verdict}{}", escape(findings.about.guarantees)),
            escape(findings.about.limits),
        ]
    });
    rows_of(["strategy", "complexity", "performance", "guarantees", "limits"], rows)
}

/// A table of cells that are HTML already; each row has its head first.
pub fn rows_of<const N: usize>(heads: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut text = "<table>\n<thead><tr>".to_owned();
    text.extend(heads.map(|head| format!("<th scope=col>{head}</th>")));
    text.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        let mut cells = heads.iter().zip(row);
        let name = cells.next().map(|(_, name)| name).unwrap_or_default();
        let cells: String = cells.map(|(head, cell)| format!("<td data-head={head}>{cell}</td>")).collect();
        text.push_str(&format!("<tr><th scope=row>{name}</th>{cells}</tr>\n"));
    }
    text.push_str("</tbody>\n</table>\n");
    text
}

/// All about one strategy.
fn section(findings: &Findings) -> String {
    let Findings { name, about, metrics, checks, figures } = findings;
    let rows = metrics.rows().into_iter();
    let numbers = rows.map(|(head, value)| format!("<div><dt>{}</dt><dd>{value}</dd></div>\n", escape(head)));
    let charts = figures.iter().enumerate().filter_map(|(nth, figure)| charts::of(figure, &format!("{name}-{nth}")));
    let guards: Vec<_> = about.guards.iter().map(|guard| guard.name()).collect();
    format!(
        "<section id=\"{name}\">\n<h2>{name}</h2>\n<p>{promise}.</p>\n<dl class=numbers>\n{numbers}</dl>\n\
         <ul class=claims>\n{claims}</ul>\n<p>Each guard can be taken away, and claims are then seen to break: {guards}.</p>\n\
         <div class=charts>\n{charts}</div>\n</section>\n",
        promise = escape(&capital(about.guarantees)),
        numbers = numbers.collect::<String>(),
        claims = checks.iter().map(claim).collect::<String>(),
        guards = guards.join(", "),
        charts = charts.collect::<String>(),
    )
}

fn claim(check: &Check) -> String {
    let held = word(check.held, if check.held { "held" } else { "BROKEN" });
    format!("<li>{held}<div>{}<small>{}</small></div></li>\n", escape(check.claim), escape(&check.observed))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::figures::{Bar, Figure, Lanes, Levels, Mark};
    use crate::lab::latency::Latency;
    use crate::lab::metrics::{Grants, Metrics};
    use crate::lab::strategies;
    use crate::lab::tally::Tally;

    fn findings(figures: Vec<Figure>) -> Findings {
        let checks = vec![Check::new("a < b", true, "1 & 2"), Check::new("c", false, "no")];
        let strategies = strategies::all();
        Findings::of(&*strategies[0], Metrics::Grants(Grants::default()), checks, figures)
    }

    #[test]
    fn the_page_tells_the_table_the_claims_and_draws_all_charts() {
        let mut times = Latency::default();
        [5_000, 6_000, 900_000].into_iter().for_each(|nanos| times.record(nanos));
        let lanes = Lanes {
            title: "Who".to_owned(),
            rows: vec!["process 0".to_owned(), "process 1".to_owned()],
            bars: vec![
                Bar { row: 0, colour: 0, from: 1_000, to: 2_000 },
                Bar { row: 1, colour: 1, from: 3_000, to: 4_000 },
            ],
            marks: vec![Mark::new(2_500, "killed"), Mark::new(9_000, "too late to be seen")],
            ..Lanes::default()
        };
        let tally = (0..50).map(|tenth| tenth * Tally::EACH).collect();
        let series = vec![("pending", vec![(1, 5), (2, 7)])];
        let levels = Levels { title: "Jobs".to_owned(), of: "jobs", series, marks: vec![] };
        let page = of(
            5,
            &[findings(vec![
                Figure::latency("waiting", times),
                Figure::Lanes(lanes),
                Figure::rate("Grants", "grants a second", tally, vec![]),
                Figure::Levels(levels),
            ])],
        );
        for part in [
            "1 of 2 claims held",
            "a &lt; b",
            "1 &amp; 2",
            ">BROKEN<",
            ">process 1<",
            "At 0 s: killed.",
            "grants a second from 10 to 10, 10 on average",
            "Half took at most 6.0 µs",
            "pending: up to 7, 7 at the end",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert_eq!(page.matches("<svg").count(), 4);
        assert!(!page.contains("too late") && !page.contains("http:") && !page.contains("https:"));
    }

    #[test]
    fn what_has_nothing_to_be_drawn_is_not_drawn() {
        let nothing = vec![
            Figure::latency("waiting", Latency::default()),
            Figure::Lanes(Lanes::default()),
            Figure::rate("Grants", "grants a second", [7].into_iter().collect(), vec![]),
        ];
        assert!(!of(5, &[findings(nothing)]).contains("<svg"));
    }
}
