//! One resource's book: the newest tokens, and what happened.

use serde::{Deserialize, Serialize};

use crate::lab::history::{Event, What};

/// What a holder asks of the register.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub name: String,
    pub who: u32,
    pub token: u64,
    pub act: Act,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    Enter { shared: bool, valid_until: u64 },
    Leave,
    Write,
}

/// What the register says to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub accepted: bool,
    pub newest: u64,
}

/// One resource.
#[derive(Debug, Default)]
pub struct Book {
    newest: u64,
    /// The newest token of one who was to be alone: readers that came after it may enter in any order.
    newest_alone: u64,
    pub events: Vec<Event>,
}

impl Book {
    /// Takes a request, and writes down what became of it.
    pub fn note(&mut self, request: &Request, at: u64, fence: bool) -> Answer {
        let &Request { who, token, act, .. } = request;
        let older_than = |newest| fence && token < newest;
        let what = match act {
            Act::Enter { shared, valid_until } => {
                if older_than(if shared { self.newest_alone } else { self.newest }) {
                    What::Refused { valid_until }
                } else {
                    if !shared {
                        self.newest_alone = self.newest_alone.max(token);
                    }
                    self.newest = self.newest.max(token);
                    What::Entered { shared, valid_until }
                }
            }
            Act::Leave => What::Left,
            Act::Write if older_than(self.newest) => What::WriteRefused,
            Act::Write => What::Wrote,
        };
        self.events.push(Event { at, who, token, what });
        let accepted = !matches!(what, What::Refused { .. } | What::WriteRefused);
        Answer { accepted, newest: self.newest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(book: &mut Book, token: u64, act: Act, fence: bool) -> bool {
        book.note(&Request { name: "a".to_owned(), who: 1, token, act }, 1, fence).accepted
    }

    const ALONE: Act = Act::Enter { shared: false, valid_until: 9 };
    const READER: Act = Act::Enter { shared: true, valid_until: 9 };

    #[test]
    fn older_tokens_are_turned_away_and_the_newest_may_come_again() {
        let mut book = Book::default();
        assert!(ask(&mut book, 2, ALONE, true) && ask(&mut book, 2, Act::Write, true));
        assert!(!ask(&mut book, 1, ALONE, true) && !ask(&mut book, 1, Act::Write, true));
        assert!(!ask(&mut book, 1, READER, true));
        assert!(ask(&mut book, 5, READER, true) && ask(&mut book, 3, READER, true));
        assert!(!ask(&mut book, 4, ALONE, true));
        assert_eq!(book.events.len(), 8);
    }

    #[test]
    fn without_the_fence_an_old_token_passes() {
        let mut book = Book::default();
        assert!(ask(&mut book, 2, ALONE, false) && ask(&mut book, 1, ALONE, false));
        assert!(ask(&mut book, 1, Act::Write, false));
    }
}
