//! The picture as sections of rows, and as text. Columns are measured as a terminal shows them: a wide character takes
//! two of its cells.

use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::model::{Held, Picture, Source};
use crate::lock::printable;
use crate::queue::Sizes;

/// Between two columns.
pub const GAP: usize = 2;
/// No column of text becomes narrower than this.
const NARROW: usize = 6;

/// What is shown of one kind.
pub struct Section {
    pub title: &'static str,
    pub head: Vec<&'static str>,
    pub rows: Vec<Row>,
    /// Why there are no rows.
    pub none: String,
}

/// One thing of that kind.
pub struct Row {
    pub cells: Vec<Cell>,
    /// Whether somebody should look at it.
    pub alarming: bool,
}

/// What is shown, and the number that it is sorted by, the highest first; by its text if it has none.
pub struct Cell {
    pub text: String,
    pub number: Option<u64>,
}

fn words(text: &str) -> Cell {
    Cell { text: printable(text), number: None }
}

fn number(number: Option<u64>) -> Cell {
    let text = number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    Cell { text, number: Some(number.map_or(0, |number| number.saturating_add(1))) }
}

fn count(count: usize) -> Cell {
    number(u64::try_from(count).ok())
}

/// A time to the second, or to the tenth below ten.
fn time(ms: Option<u64>) -> Cell {
    let text = ms.map_or_else(
        || "-".to_owned(),
        |ms| match ms {
            0..10_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
            ms => {
                let text = humantime::format_duration(Duration::from_secs(ms / 1000)).to_string();
                // The two largest units are enough.
                text.split(' ').take(2).collect()
            }
        },
    );
    Cell { text, number: Some(ms.map_or(0, |ms| ms.saturating_add(1))) }
}

/// All sections.
pub fn sections(picture: &Picture) -> Vec<Section> {
    let redis = |what| none(&picture.redis, what, "Redis", "--url or TURNSTILE_REDIS_URL");
    vec![
        Section {
            title: "locks",
            head: vec!["name", "holder", "held", "left", "waiters", "longest", "look at"],
            rows: picture.locks.iter().map(lock).collect(),
            none: redis("no lock is held or waited for"),
        },
        Section {
            title: "semaphores",
            head: vec!["name", "used", "limit", "holders", "left", "waiters", "longest", "look at"],
            rows: picture.semaphores.iter().map(semaphore).collect(),
            none: redis("there is no semaphore"),
        },
        Section {
            title: "queues",
            head: vec!["name", "group", "unread", "pending", "oldest", "delayed", "dead", "workers", "idle", "look at"],
            rows: picture.queues.iter().map(queue).collect(),
            none: redis("there is no queue"),
        },
        #[cfg(feature = "kafka")]
        Section {
            title: "groups",
            head: vec!["name", "state", "members", "idle", "partitions", "lag", "done", "look at"],
            rows: picture.groups.iter().map(group).collect(),
            none: none(&picture.kafka, "there is no consumer group", "Kafka", "--brokers or TURNSTILE_KAFKA_BROKERS"),
        },
    ]
}

fn none(source: &Source, what: &str, server: &str, how: &str) -> String {
    match (&source.address, &source.error) {
        (_, Some(error)) => error.clone(),
        (None, None) => format!("no {server} is asked: give it by {how}"),
        (Some(_), None) => what.to_owned(),
    }
}

/// The first of them, and how many more.
fn first(mut all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(1);
    let first = all.next().unwrap_or_else(|| "free".to_owned());
    if more > 0 { format!("{first} and {more} more") } else { first }
}

fn waiters(held: &Held) -> [Cell; 2] {
    let mut waiters = count(held.who.queue.len());
    if held.contended {
        waiters = Cell { text: "some".to_owned(), number: Some(2) };
    }
    [waiters, time(held.who.queue.iter().map(|waiter| waiter.waited_ms).max())]
}

fn lock(held: &Held) -> Row {
    let holders = &held.who.holders;
    let mut cells = vec![
        words(&held.who.name),
        words(&first(holders.iter().map(|holder| match holder.label.as_str() {
            "" => "other software".to_owned(),
            label => label.to_owned(),
        }))),
        time(holders.iter().map(|holder| holder.held_ms).max()),
        time(holders.iter().filter_map(|holder| holder.remaining_ms).max()),
    ];
    cells.extend(waiters(held));
    row(cells, held.verdict.as_deref())
}

fn semaphore(held: &Held) -> Row {
    let holders = &held.who.holders;
    let mut cells = vec![
        words(&held.who.name),
        number(Some(held.who.weight().into())),
        number(held.who.limit.map(u64::from)),
        words(&first(holders.iter().map(|holder| match holder.weight {
            None | Some(1) => holder.label.clone(),
            Some(weight) => format!("{} ×{weight}", holder.label),
        }))),
        time(holders.iter().filter_map(|holder| holder.remaining_ms).min()),
    ];
    cells.extend(waiters(held));
    row(cells, held.verdict.as_deref())
}

fn queue(sizes: &Sizes) -> Row {
    let alive = || sizes.workers.iter().filter(|worker| worker.alive_for_ms.is_some());
    let cells = vec![
        words(&sizes.queue),
        words(&sizes.group),
        number(sizes.unread),
        number(Some(sizes.pending)),
        time(sizes.oldest_pending_ms.max(sizes.oldest_unread_ms)),
        number(Some(sizes.delayed)),
        number(Some(sizes.dead)),
        count(alive().count()),
        count(alive().filter(|worker| worker.pending == 0).count()),
    ];
    row(cells, sizes.verdict.as_deref())
}

#[cfg(feature = "kafka")]
fn group(group: &super::model::Group) -> Row {
    let answer = &group.answer;
    let members = answer.members.as_deref();
    let cells = vec![
        words(&answer.group),
        words(answer.state.as_deref().unwrap_or("-")),
        number(members.and_then(|members| u64::try_from(members.len()).ok())),
        number(members.and_then(|members| u64::try_from(members.iter().filter(|one| one.idle).count()).ok())),
        count(answer.partitions.len()),
        number(u64::try_from(answer.lag).ok()),
        number(Some(answer.done_beyond)),
    ];
    row(cells, Some(group.verdicts.join("; ").as_str()).filter(|text| !text.is_empty()))
}

fn row(mut cells: Vec<Cell>, verdict: Option<&str>) -> Row {
    cells.push(words(verdict.unwrap_or("")));
    Row { cells, alarming: verdict.is_some() }
}

impl Section {
    /// Sorts by a column; without one, what somebody should look at comes first.
    pub fn sort(&mut self, column: Option<usize>) {
        self.rows.sort_by(|a, b| match column {
            None => (b.alarming.cmp(&a.alarming)).then_with(|| a.cells[0].text.cmp(&b.cells[0].text)),
            Some(at) => {
                let (a, b) = (&a.cells[at], &b.cells[at]);
                b.number.cmp(&a.number).then_with(|| a.text.cmp(&b.text))
            }
        });
    }

    /// Whether a column is of numbers, and stands to the right.
    pub fn is_number(&self, column: usize) -> bool {
        self.rows.first().is_some_and(|row| row.cells[column].number.is_some())
    }

    /// How wide each column is, so that all fit: the widest of text gives way first.
    pub fn widths(&self, room: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self.head.iter().map(|head| head.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(&row.cells) {
                *width = (*width).max(cell.text.width());
            }
        }
        let Some(room) = room else { return widths };
        let gaps = GAP * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > room {
            let text = (0..widths.len()).filter(|column| !self.is_number(*column) && widths[*column] > NARROW);
            let Some(widest) = text.max_by_key(|column| widths[*column]) else { break };
            widths[widest] -= 1;
        }
        widths
    }
}

/// As much of the text as fits, with a sign where something is missing.
pub fn fit(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut fitted = String::new();
    let mut left = room.saturating_sub(1);
    for character in text.chars() {
        let width = character.width().unwrap_or(0);
        if width > left {
            break;
        }
        left -= width;
        fitted.push(character);
    }
    if room > 0 {
        fitted.push('…');
    }
    fitted
}

/// How many cells the text is to be moved to stand to the right.
pub fn indent(text: &str, width: usize) -> usize {
    width.saturating_sub(text.width())
}

/// Which servers answered, and when.
pub fn headline(picture: &Picture) -> String {
    let server = |name: &str, source: &Source| {
        let how = if source.error.is_some() { " FAILS" } else { "" };
        source.address.as_ref().map(|address| format!("{name} {address}{how}"))
    };
    let servers = [server("redis", &picture.redis), server("kafka", &picture.kafka)];
    let mut words = vec![picture.at.clone()];
    words.extend(servers.into_iter().flatten());
    words.join("  ")
}

/// The first thing to look at, and how many more there are.
pub fn verdict(picture: &Picture) -> String {
    match picture.verdicts.as_slice() {
        [] => "nothing stands out".to_owned(),
        [one] => format!("! {one}"),
        [one, more @ ..] => format!("! {one} (and {} more)", more.len()),
    }
}

/// The whole as text, of any width and length.
pub fn text(picture: &Picture) -> String {
    let mut lines = vec![headline(picture)];
    lines.extend(picture.verdicts.iter().map(|verdict| format!("! {verdict}")));
    for mut section in sections(picture) {
        section.sort(None);
        lines.extend([String::new(), section.title.to_uppercase()]);
        if section.rows.is_empty() {
            lines.push(format!("  {}", section.none));
            continue;
        }
        let widths = section.widths(None);
        let line = |cells: Vec<&str>| {
            let mut line = String::new();
            for (column, text) in cells.iter().enumerate() {
                let space = " ".repeat(indent(text, widths[column]));
                let (left, right) = if section.is_number(column) { (&*space, "") } else { ("", &*space) };
                line.push_str(&format!("  {left}{text}{right}"));
            }
            line.trim_end().to_owned()
        };
        lines.push(line(section.head.clone()));
        lines.extend(section.rows.iter().map(|row| line(row.cells.iter().map(|cell| cell.text.as_str()).collect())));
    }
    let notes: Vec<_> = picture.redis.notes.iter().chain(&picture.kafka.notes).cloned().collect();
    if !notes.is_empty() {
        lines.push(String::new());
        lines.extend(notes);
    }
    lines.join("\n")
}
