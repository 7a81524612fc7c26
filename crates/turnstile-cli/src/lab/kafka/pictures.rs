//! Charts of a history: who worked on which partition when, and how many records were done.

use std::collections::{BTreeMap, BTreeSet};

use turnstile_testkit::history::{Event, Fault, How, What};

use crate::lab::figures::{Bar, Figure, Lanes, Mark};
use crate::lab::tally::Tally;

/// A row for each partition, a bar for as long as one member worked on its records before another did.
pub fn owners(title: &str, events: &[Event], marks: Vec<Mark>) -> Figure {
    let mut at_work: BTreeMap<i32, (&str, u64, u64)> = BTreeMap::new();
    let mut done = Vec::new();
    for event in events {
        match &event.what {
            What::Started { place, .. } => {
                let now = (&*event.who, event.at, event.at);
                let partition = at_work.entry(place.partition).or_insert(now);
                if *partition.0 != *event.who {
                    done.push((place.partition, std::mem::replace(partition, now)));
                }
                partition.2 = event.at;
            }
            What::Ended { place, .. } => {
                if let Some(partition) = at_work.get_mut(&place.partition).filter(|one| *one.0 == *event.who) {
                    partition.2 = event.at;
                }
            }
            _ => {}
        }
    }
    done.extend(at_work);
    let members: BTreeSet<&str> = done.iter().map(|(_, (who, ..))| *who).collect();
    let partitions: BTreeSet<i32> = done.iter().map(|(partition, _)| *partition).collect();
    let bars = done.iter().map(|(partition, (who, from, to))| Bar {
        row: partitions.iter().take_while(|one| *one != partition).count(),
        colour: members.iter().take_while(|member| *member != who).count(),
        from: *from,
        to: *to,
    });
    Figure::Lanes(Lanes {
        title: title.to_owned(),
        note: "A bar is a member, from the first record of the partition that it began to the last that it ended."
            .to_owned(),
        rows: partitions.iter().map(|partition| format!("partition {partition}")).collect(),
        bars: bars.collect(),
        colours: members.iter().map(|member| member.replace('-', " ")).collect(),
        marks,
    })
}

/// How many records were done a second.
pub fn done(title: &str, events: &[Event], marks: Vec<Mark>) -> Figure {
    let done = events.iter().filter(|event| matches!(event.what, What::Ended { how: How::Done, .. }));
    Figure::rate(title, "records done a second", done.map(|event| event.at).collect(), marks)
}

/// How many records were committed a second, as an observer saw it.
pub fn committed(title: &str, events: &[Event], marks: Vec<Mark>) -> Figure {
    let (mut before, mut tally) = (BTreeMap::new(), Tally::default());
    for event in events {
        let What::Committed { partition, offset, .. } = &event.what else { continue };
        let earlier = before.insert(*partition, *offset).unwrap_or(0);
        tally.many(event.at, u64::try_from(offset - earlier).unwrap_or(0));
    }
    Figure::rate(title, "records committed a second", tally, marks)
}

/// Who was killed when.
pub fn kills(events: &[Event]) -> Vec<Mark> {
    let kill = |event: &Event| match &event.what {
        What::Fault { fault: Fault::Kill, whom: Some(whom) } => {
            Some(Mark::new(event.at, format!("{} killed", whom.replace('-', " "))))
        }
        _ => None,
    };
    events.iter().filter_map(kill).collect()
}

#[cfg(test)]
mod tests {
    use turnstile_testkit::history::Place;

    use super::*;

    #[test]
    fn a_bar_ends_where_the_next_member_begins() {
        let place = |partition| Place::new("t", partition, 0);
        let started = |at, who: &str, partition| Event {
            at,
            who: who.into(),
            what: What::Started { place: place(partition), key: None, epoch: 1, attempt: 1 },
        };
        let ended = |at, who: &str, partition| Event {
            at,
            who: who.into(),
            what: What::Ended { place: place(partition), epoch: 1, attempt: 1, how: How::Done },
        };
        let kill = What::Fault { fault: Fault::Kill, whom: Some("member-0".into()) };
        let events = [
            started(1, "member-0", 3),
            ended(2, "member-0", 3),
            started(2, "member-1", 5),
            Event { at: 4, who: "lab".into(), what: kill },
            started(7, "member-1", 3),
            ended(9, "member-1", 3),
        ];
        let Figure::Lanes(lanes) = owners("x", &events, kills(&events)) else { panic!("no lanes") };
        assert_eq!(lanes.rows, ["partition 3", "partition 5"]);
        assert_eq!(lanes.colours, ["member 0", "member 1"]);
        let bars: Vec<_> = lanes.bars.iter().map(|bar| (bar.row, bar.colour, bar.from, bar.to)).collect();
        assert_eq!(bars, [(0, 0, 1, 2), (0, 1, 7, 9), (1, 1, 2, 2)]);
        assert_eq!(lanes.marks, [Mark::new(4, "member 0 killed")]);
    }
}
