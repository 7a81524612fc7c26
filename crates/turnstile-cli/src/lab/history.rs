//! What happened at one guarded resource, in the order in which it happened there.

use std::collections::HashMap;

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

/// A stay at a resource, for the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    pub who: u32,
    pub token: u64,
    pub from: u64,
    pub to: u64,
}

/// The first stays of a history, up to `most` of them.
pub fn stays(events: &[Event], most: usize) -> Vec<Stay> {
    let mut inside = HashMap::new();
    let mut stays = Vec::new();
    for event in events {
        match event.what {
            What::Entered { .. } => _ = inside.insert((event.who, event.token), event.at),
            What::Left => {
                let Some(from) = inside.remove(&(event.who, event.token)) else { continue };
                stays.push(Stay { who: event.who, token: event.token, from, to: event.at });
                if stays.len() == most {
                    break;
                }
            }
            _ => {}
        }
    }
    stays
}
