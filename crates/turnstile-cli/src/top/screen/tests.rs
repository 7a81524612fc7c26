//! Frames of a fixed picture, as a terminal of a given size shows them.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::model::{Held, Source};
use super::*;
use crate::who::{Answer, Row, Waiting};

fn held(name: &str, limit: Option<u32>, holders: &[(&str, u64, Option<u64>)], waits: &[u64]) -> Held {
    let row = |(label, held_ms, remaining_ms): &(&str, u64, Option<u64>)| Row {
        label: (*label).to_owned(),
        owner: "0".repeat(32),
        token: 7,
        shared: false,
        weight: limit.map(|_| 1),
        since: String::new(),
        held_ms: *held_ms,
        remaining_ms: *remaining_ms,
    };
    let waiting = |waited_ms: &u64| Waiting {
        label: "w".to_owned(),
        owner: "1".repeat(32),
        weight: limit.map(|_| 1),
        waited_ms: *waited_ms,
    };
    let who = Answer {
        name: name.to_owned(),
        held: !holders.is_empty(),
        limit,
        holders: holders.iter().map(row).collect(),
        queue: waits.iter().map(waiting).collect(),
    };
    Held::new(who, false)
}

fn picture() -> Picture {
    let mut picture = Picture::default();
    let source = Source { address: Some("db:6379".to_owned()), ..Source::default() };
    picture.take(Part::Redis {
        source,
        locks: vec![
            held("nightly", None, &[("build-7:4711", 12_300, Some(27_600))], &[4_000, 61_000]),
            held("注文\u{1b}[2J/42", None, &[("build-8:1", 3_700_000, None)], &[]),
        ],
        semaphores: vec![held("exports", Some(2), &[("a:1", 1_000, Some(9_000)), ("b:2", 900, Some(8_000))], &[])],
        queues: Vec::new(),
    });
    picture.at = "2026-05-04T02:00:07Z".to_owned();
    picture
}

fn frame(picture: &Picture, chosen: &mut Chosen, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, picture, chosen)).unwrap();
    let buffer = terminal.backend().buffer();
    // A wide character takes two cells, of which the second is not told.
    let line = |y| {
        let mut line = String::new();
        let mut skip = 0;
        for x in 0..width {
            if skip == 0 {
                let symbol = buffer[(x, y)].symbol();
                skip = unicode_width::UnicodeWidthStr::width(symbol).saturating_sub(1);
                line.push_str(symbol);
            } else {
                skip -= 1;
            }
        }
        line.trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

#[test]
fn a_frame_has_what_is_looked_for_and_wide_and_control_characters_do_not_break_its_columns() {
    let lines = frame(&picture(), &mut Chosen::default(), 100, 16);
    let expected = "\
2026-05-04T02:00:07Z  redis db:6379
! lock 注文 [2J/42: never ends by itself: it is free when its key is deleted
▶ locks (2)
  name         holder        held  left  waiters  longest  look at
  注文 [2J/42  build-8:1     1h1m     -        0        -  never ends by itself: it is free when it…
  nightly      build-7:4711   12s   27s        2     1m1s
  semaphores (1)
  name     used  limit  holders         left  waiters  longest  look at
  exports     2      2  a:1 and 1 more  8.0s        0        -
  queues (0)
  there is no queue";
    let expected: Vec<_> = expected.lines().collect();
    assert_eq!(lines[..expected.len()], expected, "{}", lines.join("\n"));
    assert_eq!(lines[15], HELP);
    #[cfg(feature = "kafka")]
    assert!(lines[12].contains("no Kafka is asked: give it by --brokers"), "{lines:?}");
}

#[test]
fn no_size_is_too_small_and_the_chosen_section_has_what_room_there_is() {
    let mut picture = picture();
    let names: Vec<_> = (0..30).map(|number| format!("lock-{number:02}")).collect();
    picture.locks = names.iter().map(|name| held(name, None, &[("h:1", 1, Some(1))], &[])).collect();
    let mut chosen = Chosen::default();
    for (width, height) in [(1, 1), (2, 40), (200, 1), (10, 5), (80, 24), (200, 50)] {
        frame(&picture, &mut chosen, width, height);
    }
    let lines = frame(&picture, &mut chosen, 80, 24);
    assert!(lines.iter().filter(|line| line.contains("lock-")).count() >= 10, "{}", lines.join("\n"));

    let all = sections(&picture, &mut chosen);
    for _ in 0..29 {
        assert_eq!(chosen.on(key(KeyCode::Down), &all), Action::Draw);
    }
    let lines = frame(&picture, &mut chosen, 80, 24);
    assert!(lines.iter().any(|line| line.contains("lock-29")), "it scrolls to the row: {}", lines.join("\n"));
    assert!(!lines.iter().any(|line| line.contains("lock-00")), "{}", lines.join("\n"));
}

#[test]
fn keys_choose_sort_and_end() {
    let picture = picture();
    let mut chosen = Chosen::default();
    let all = sections(&picture, &mut chosen);
    let names = |chosen: &mut Chosen| -> Vec<_> {
        sections(&picture, chosen)[0].rows.iter().map(|row| row.cells[0].text.clone()).collect()
    };
    assert!(names(&mut chosen)[0].starts_with('注'), "what is to be looked at comes first");
    chosen.on(key(KeyCode::Char('s')), &all);
    assert_eq!(names(&mut chosen)[0], "nightly", "by name");
    for _ in 0..6 {
        chosen.on(key(KeyCode::Char('s')), &all);
    }
    assert!(names(&mut chosen)[0].starts_with('注'), "once around");

    chosen.on(key(KeyCode::Tab), &all);
    assert_eq!(chosen.section, 1);
    chosen.on(key(KeyCode::Left), &all);
    chosen.on(key(KeyCode::BackTab), &all);
    assert_eq!(chosen.section, all.len() - 1);
    assert_eq!(chosen.on(key(KeyCode::Char('r')), &all), Action::Ask);
    assert_eq!(chosen.on(key(KeyCode::Char('q')), &all), Action::Quit);
    assert_eq!(chosen.on(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), &all), Action::Quit);
}

#[test]
fn a_server_that_fails_is_a_line_and_the_rest_is_shown() {
    let mut picture = picture();
    let mut source = Source { address: Some("db:6379".to_owned()), ..Source::default() };
    source.failed(&Failure::new(exit::UNAVAILABLE, "db:6379 does not answer"));
    picture.take(Part::Redis { source, locks: Vec::new(), semaphores: Vec::new(), queues: Vec::new() });
    let lines = frame(&picture, &mut Chosen::default(), 80, 24);
    assert_eq!(lines[1], "! db:6379 does not answer");
    assert_eq!(lines[3], "  db:6379 does not answer");
    assert_eq!(picture.code(), exit::UNAVAILABLE);
    picture.kafka.address = Some("k:9092".to_owned());
    assert_eq!(picture.code(), 0, "the other one answered");
}
