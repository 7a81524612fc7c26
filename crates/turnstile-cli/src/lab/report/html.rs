//! The report that people read: one page that needs nothing else, with what was measured, the claims, the latency by
//! quantile, and who held the lock when.

use super::Findings;
use crate::lab::history::Stay;
use crate::lab::latency::Latency;
use crate::lab::words::micros;

const QUANTILES: [f64; 7] = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 1.0];

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222;background:#fff}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:left}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.held{color:#177245}.broken{color:#b00020;font-weight:bold}\
svg{width:100%;background:#f6f6f6}svg text{font:11px system-ui,sans-serif;fill:#444}\
.wide{overflow-x:auto;white-space:nowrap}";

/// The page.
pub fn page(all: &[Findings]) -> String {
    let mut body = String::new();
    for findings in all {
        body.push_str(&format!("<h2>{}</h2>\n<table>\n", findings.name));
        for (name, value) in findings.metrics.rows() {
            body.push_str(&format!("<tr><td>{name}</td><td class=n>{value}</td></tr>\n"));
        }
        body.push_str("</table>\n<table>\n<tr><th></th><th>claim</th><th>observed</th></tr>\n");
        for check in &findings.checks {
            let (class, word) = if check.held { ("held", "held") } else { ("broken", "BROKEN") };
            let (claim, observed) = (escape(check.claim), escape(&check.observed));
            body.push_str(&format!("<tr><td class={class}>{word}</td><td>{claim}</td><td>{observed}</td></tr>\n"));
        }
        body.push_str("</table>\n");
        body.push_str(&quantiles(&findings.latency, findings.latency_of));
        body.push_str(&timeline(&findings.stays));
    }
    format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<meta name=viewport content=\"width=device-width\">\n\
         <title>turnstile lab</title>\n<style>{STYLE}</style>\n<h1>turnstile lab</h1>\n{body}</html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn quantiles(latency: &Latency, of: &str) -> String {
    if latency.count() == 0 {
        return String::new();
    }
    let mut text = format!("<h3>Latency of {of}</h3>\n<div class=wide><table>\n<tr>");
    for quantile in QUANTILES {
        let name =
            if quantile == 1.0 { "longest".to_owned() } else { format!("{}&nbsp;%", (quantile * 1e5).round() / 1e3) };
        text.push_str(&format!("<th class=n>{name}</th>"));
    }
    text.push_str("</tr>\n<tr>");
    for quantile in QUANTILES {
        text.push_str(&format!("<td class=n>{}</td>", micros(latency.micros(quantile))));
    }
    text.push_str("</tr>\n</table></div>\n");
    text
}

/// A row for each process, a bar for each stay.
fn timeline(stays: &[Stay]) -> String {
    let (Some(first), Some(last)) = (stays.first(), stays.last()) else { return String::new() };
    const WIDTH: f64 = 900.0;
    const LEFT: f64 = 80.0;
    const ROW: u32 = 26;
    let length = last.to.saturating_sub(first.from).max(1) as f64;
    let mut processes: Vec<u32> = stays.iter().map(|stay| process(stay.who)).collect();
    processes.sort_unstable();
    processes.dedup();
    let row = |who: u32| processes.iter().position(|process| *process == self::process(who)).unwrap_or(0) as u32 * ROW;
    let height = processes.len() as u32 * ROW + 24;
    let mut text = format!(
        "<h3>Who held it: the first {} grants, {}</h3>\n<svg viewBox=\"0 0 {WIDTH} {height}\">\n",
        stays.len(),
        micros(length / 1e3)
    );
    for process in &processes {
        text.push_str(&format!("<text x=4 y={}>process {process}</text>\n", row(process * TASKS_OF) + 17));
    }
    for stay in stays {
        let x = |at: u64| LEFT + at.saturating_sub(first.from) as f64 / length * (WIDTH - LEFT);
        let (from, to, task) = (x(stay.from), x(stay.to), stay.who % TASKS_OF);
        text.push_str(&format!(
            "<rect x={from:.2} y={} width={:.2} height={} fill=\"hsl({} 60% 45%)\"><title>task {task}, token {}, {}</title></rect>\n",
            row(stay.who) + 4,
            (to - from).max(0.5),
            ROW - 8,
            task * 45 % 360,
            stay.token,
            micros(stay.to.saturating_sub(stay.from) as f64 / 1e3)
        ));
    }
    text.push_str(&format!("<text x={LEFT} y={}>0</text>\n", height - 6));
    text.push_str(&format!(
        "<text x={} y={} text-anchor=end>{}</text>\n</svg>\n",
        WIDTH - 4.0,
        height - 6,
        micros(length / 1e3)
    ));
    text
}

/// Workers number their tasks so.
const TASKS_OF: u32 = 1000;

fn process(who: u32) -> u32 {
    who / TASKS_OF
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::findings::Check;
    use crate::lab::metrics::{Grants, Metrics};

    #[test]
    fn the_page_tells_the_claims_and_draws_who_held_it() {
        let mut latency = Latency::default();
        latency.record(5_000);
        let stays = vec![
            Stay { who: 0, token: 1, from: 1_000, to: 2_000 },
            Stay { who: 1001, token: 2, from: 3_000, to: 4_000 },
        ];
        let checks = vec![Check::new("a < b", true, "1 & 2"), Check::new("c", false, "no")];
        let findings = Findings {
            name: "x",
            metrics: Metrics::Grants(Grants::default()),
            checks,
            latency,
            latency_of: "waiting",
            stays,
        };
        let page = page(&[findings]);
        for part in ["a &lt; b", "1 &amp; 2", ">BROKEN<", "process 1<", "task 1, token 2", "99.999&nbsp;%"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert_eq!(page.matches("<rect").count(), 2);
    }
}
