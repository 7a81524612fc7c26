//! What happened at one guarded resource, in the order in which it happened there.

use std::collections::HashMap;

use super::figures::{Bar, Lanes};

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When, by [`clock::now`](super::clock::now).
    pub at: u64,
    /// Who did it: a task of a process.
    pub who: u32,
    /// With which fencing token.
    pub token: u64,
    pub what: What,
}

/// What can happen at a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Somebody began to use it, whose lease was good until `valid_until` by its own word.
    Entered { shared: bool, valid_until: u64 },
    /// Somebody was turned away, since a newer token had been seen.
    Refused { valid_until: u64 },
    /// Somebody ended to use it.
    Left,
    /// Somebody changed it.
    Wrote,
    /// Somebody's change was turned away, since a newer token had been seen.
    WriteRefused,
}

/// A stay at a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stay {
    /// The process.
    process: usize,
    from: u64,
    to: u64,
}

/// Workers number their tasks so.
pub const TASKS_OF: u32 = 1000;
/// How many stays are drawn.
const DRAWN: usize = 250;

/// The first stays of a history, in the order of their ends.
fn stays(events: &[Event]) -> Vec<Stay> {
    let mut inside = HashMap::new();
    let mut stays = Vec::new();
    for event in events {
        match event.what {
            What::Entered { .. } => _ = inside.insert((event.who, event.token), event.at),
            What::Left => {
                let Some(from) = inside.remove(&(event.who, event.token)) else { continue };
                stays.push(Stay { process: (event.who / TASKS_OF) as usize, from, to: event.at });
                if stays.len() == DRAWN {
                    break;
                }
            }
            _ => {}
        }
    }
    stays
}

/// Who held a lock when: a row for each process.
pub fn by_process(events: &[Event]) -> Lanes {
    let stays = stays(events);
    let bar = |stay: &Stay| Bar { row: stay.process, colour: stay.process, from: stay.from, to: stay.to };
    let processes = stays.iter().map(|stay| stay.process + 1).max().unwrap_or(0);
    Lanes {
        title: format!("Who held it: the first {} grants", stays.len()),
        note: "A bar is a stay, from entering what the lock guards until leaving it.".to_owned(),
        rows: (0..processes).map(|process| format!("process {process}")).collect(),
        bars: stays.iter().map(bar).collect(),
        ..Lanes::default()
    }
}

/// Who had which permit when: each stay in the first row that was free. There are as many rows as were ever inside at once.
pub fn by_permit(events: &[Event]) -> Lanes {
    let mut stays = stays(events);
    stays.sort_unstable_by_key(|stay| stay.from);
    let mut free: Vec<u64> = Vec::new();
    let mut bars = Vec::new();
    for stay in &stays {
        let row = free.iter().position(|since| *since <= stay.from).unwrap_or_else(|| {
            free.push(0);
            free.len() - 1
        });
        free[row] = stay.to;
        bars.push(Bar { row, colour: stay.process, from: stay.from, to: stay.to });
    }
    let processes = stays.iter().map(|stay| stay.process + 1).max().unwrap_or(0);
    Lanes {
        title: format!("Who was inside: the first {} grants", stays.len()),
        note: "A bar is a stay of a process; there are as many rows as were ever inside at once.".to_owned(),
        rows: (1..=free.len()).map(|permit| format!("permit {permit}")).collect(),
        colours: (0..processes).map(|process| format!("process {process}")).collect(),
        bars,
        ..Lanes::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_are_drawn_by_process_and_by_permit() {
        let event = |at, who, what| Event { at, who, token: 1, what };
        let entered = What::Entered { shared: true, valid_until: 99 };
        let events = [
            event(1, 0, entered),
            event(2, 1000, entered),
            event(3, 0, What::Left),
            event(4, 1, entered),
            event(5, 1000, What::Left),
            event(6, 1, What::Left),
        ];
        let places = |lanes: Lanes| lanes.bars.iter().map(|bar| (bar.row, bar.colour, bar.from)).collect::<Vec<_>>();
        assert_eq!(places(by_process(&events)), [(0, 0, 1), (1, 1, 2), (0, 0, 4)]);
        let permits = by_permit(&events);
        assert_eq!(permits.rows, ["permit 1", "permit 2"]);
        assert_eq!(places(permits), [(0, 0, 1), (1, 1, 2), (0, 0, 4)]);
    }
}
