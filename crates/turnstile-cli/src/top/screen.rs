//! The terminal: asks over and over in threads of their own, draws what is there, and leaves the terminal as it was.

use std::sync::mpsc;
use std::time::Duration;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::Asking;
use super::keys::{Action, Chosen};
use super::model::{Part, Picture};
use super::view::{self, GAP, Section};
use crate::exit::{self, Failure};
use crate::lock::signals::Signals;

/// The title of a section, its head and one row.
const LEAST: usize = 3;
const HELP: &str = "q quit  Tab section  ↑↓ row  s sort  r ask now";

/// Draws until somebody ends it.
pub fn run(askers: Vec<Asking>, every: Duration) -> Result<u8, Failure> {
    let runtime = crate::lock::runtime()?;
    let refused = |error: std::io::Error| Failure::new(exit::SOFTWARE, format!("the terminal cannot be used: {error}"));
    runtime.block_on(async {
        let mut signals = Signals::listen().map_err(refused)?;
        let (parts, mut answers) = unbounded_channel();
        let bells: Vec<_> = askers.into_iter().map(|ask| keep_asking(ask, every, parts.clone())).collect();
        drop(parts);
        // From here on a panic, too, gives the terminal back before it is told.
        let mut terminal = ratatui::try_init().map_err(refused)?;
        let (keys, mut events) = unbounded_channel();
        std::thread::spawn(move || while event::read().is_ok_and(|event| keys.send(event).is_ok()) {});

        let (mut picture, mut chosen) = (Picture::default(), Chosen::default());
        let ended = loop {
            if let Err(error) = terminal.draw(|frame| draw(frame, &picture, &mut chosen)) {
                break Err(refused(error));
            }
            tokio::select! {
                signal = signals.next() => break Ok(exit::of_signal(signal)),
                part = answers.recv() => match part {
                    Some(part) => picture.take(part),
                    None => break Err(Failure::new(exit::SOFTWARE, "nobody asks the servers any more")),
                },
                event = events.recv() => match event {
                    Some(Event::Key(key)) => match chosen.on(key, &sections(&picture, &mut Chosen::default())) {
                        Action::Quit => break Ok(0),
                        // An asker that is gone ends its channel of answers too.
                        Action::Ask => bells.iter().for_each(|bell| { let _ = bell.send(()); }),
                        Action::Draw => {}
                    },
                    // It is drawn anew, in its new size.
                    Some(_) => {}
                    None => break Err(Failure::new(exit::SOFTWARE, "the terminal is gone")),
                },
            }
        };
        ratatui::try_restore().map_err(refused)?;
        ended
    })
}

/// A thread that asks, waits, and asks again; earlier when the bell is rung.
fn keep_asking(mut ask: Asking, every: Duration, parts: UnboundedSender<Part>) -> mpsc::Sender<()> {
    let (bell, rung) = mpsc::channel();
    std::thread::spawn(move || {
        while parts.send(ask()).is_ok() && rung.recv_timeout(every) != Err(mpsc::RecvTimeoutError::Disconnected) {}
    });
    bell
}

fn sections(picture: &Picture, chosen: &mut Chosen) -> Vec<Section> {
    let mut sections = view::sections(picture);
    chosen.fit(&sections);
    for (at, section) in sections.iter_mut().enumerate() {
        section.sort(chosen.look(at).sort);
    }
    sections
}

/// Draws a picture: a line on the servers, one on what to look at, the sections, and the keys.
pub fn draw(frame: &mut Frame<'_>, picture: &Picture, chosen: &mut Chosen) {
    let area = frame.area();
    let sections = sections(picture, chosen);
    let canvas = frame.buffer_mut();
    let mut pen = Pen { canvas, area, line: 0 };
    if picture.at.is_empty() {
        pen.line("asking…", Style::new());
        return;
    }
    pen.line(&view::headline(picture), Style::new().add_modifier(Modifier::BOLD));
    let alarm = if picture.verdicts.is_empty() { Color::Green } else { Color::Red };
    pen.line(&view::verdict(picture), Style::new().fg(alarm));

    let notes: Vec<_> = picture.redis.notes.iter().chain(&picture.kafka.notes).collect();
    let room = usize::from(area.height).saturating_sub(3 + notes.len());
    for ((at, section), lines) in sections.iter().enumerate().zip(share(&sections, chosen.section, room)) {
        pen.section(section, at == chosen.section, chosen.look(at), lines);
    }
    pen.line = usize::from(area.height).saturating_sub(1 + notes.len());
    for note in notes {
        pen.line(note, Style::new().add_modifier(Modifier::DIM));
    }
    pen.line(HELP, Style::new().add_modifier(Modifier::DIM));
}

/// How many lines each section gets: all what is least, then the chosen one what it wants, then the others.
fn share(sections: &[Section], chosen: usize, mut room: usize) -> Vec<usize> {
    let wants: Vec<_> = sections.iter().map(|section| (section.rows.len() + 2).max(2)).collect();
    let mut lines = vec![0; sections.len()];
    let order = |least: bool| {
        let first = (!least).then_some(chosen);
        first.into_iter().chain(0..wants.len()).map(move |at| (at, least))
    };
    for (at, least) in order(true).chain(order(false)) {
        let want = if least { wants[at].min(LEAST) } else { wants[at] };
        let more = want.saturating_sub(lines[at]).min(room);
        lines[at] += more;
        room -= more;
    }
    lines
}

/// Writes lines from the top to the bottom.
struct Pen<'a> {
    canvas: &'a mut Buffer,
    area: Rect,
    line: usize,
}

impl Pen<'_> {
    fn line(&mut self, text: &str, style: Style) {
        self.put(0, &view::fit(text, self.area.width.into()), style);
        self.line += 1;
    }

    fn put(&mut self, column: usize, text: &str, style: Style) {
        let (Ok(x), Ok(y)) = (u16::try_from(column), u16::try_from(self.line)) else { return };
        if x < self.area.width && y < self.area.height {
            self.canvas.set_stringn(self.area.x + x, self.area.y + y, text, usize::from(self.area.width - x), style);
        }
    }

    fn section(&mut self, section: &Section, is_chosen: bool, look: &mut super::keys::Look, lines: usize) {
        let Some(shown) = lines.checked_sub(2) else { return };
        let count = section.rows.len();
        let by = look.sort.map_or_else(String::new, |column| format!(", by {}", section.head[column]));
        let more = if shown < count { format!(", {shown} shown") } else { String::new() };
        let mark = if is_chosen { "▶" } else { " " };
        let style = Style::new().add_modifier(Modifier::BOLD).fg(if is_chosen { Color::Cyan } else { Color::Reset });
        self.line(&format!("{mark} {} ({count}{more}{by})", section.title), style);
        if count == 0 {
            self.line(&format!("  {}", section.none), Style::new().add_modifier(Modifier::DIM));
            return;
        }
        look.top = look.top.min(look.row).max((look.row + 1).saturating_sub(shown)).min(count.saturating_sub(shown));
        let widths = section.widths(Some(usize::from(self.area.width).saturating_sub(2)));
        let head: Vec<_> = section.head.iter().map(|head| (*head).to_owned()).collect();
        self.row(section, &widths, &head, Style::new().add_modifier(Modifier::DIM));
        for (at, row) in section.rows.iter().enumerate().skip(look.top).take(shown) {
            let mut style = Style::new();
            if row.alarming {
                style = style.fg(Color::Red);
            }
            if is_chosen && at == look.row {
                style = style.add_modifier(Modifier::REVERSED);
            }
            let cells: Vec<_> = row.cells.iter().map(|cell| cell.text.clone()).collect();
            self.row(section, &widths, &cells, style);
        }
    }

    /// Each cell stands at its own place, whatever the terminal makes of the one before.
    fn row(&mut self, section: &Section, widths: &[usize], cells: &[String], style: Style) {
        let mut at = 2;
        for (column, (text, width)) in cells.iter().zip(widths).enumerate() {
            let text = view::fit(text, *width);
            let indent = if section.is_number(column) { view::indent(&text, *width) } else { 0 };
            self.put(at + indent, &text, style);
            at += width + GAP;
        }
        self.line += 1;
    }
}

#[cfg(test)]
mod tests;
