//! A group in words: one line on the whole, then its members, then its partitions.

use super::{Answer, Member};

/// The text.
pub fn of(answer: &Answer) -> String {
    let group = crate::lock::printable(&answer.group);
    if !answer.exists {
        return format!("{group}: there is no such group: it has no members, and has committed nothing");
    }
    let mut words = Vec::new();
    words.extend(answer.state.clone());
    words.extend(answer.assignor.clone());
    if let Some(members) = &answer.members {
        let idle = members.iter().filter(|member| member.idle).count();
        let idle = if idle > 0 { format!(" ({idle} idle)") } else { String::new() };
        words.push(format!("{}{idle}", some(members.len(), "member")));
    }
    words.push(some(answer.partitions.len(), "partition"));
    words.push(format!("lag {}", answer.lag));
    if answer.done_beyond > 0 {
        words.push(format!("of it done {}", answer.done_beyond));
    }
    let mut text = format!("{group}: {}\n", words.join(", "));

    let members = answer.members.as_deref().unwrap_or_default();
    if !members.is_empty() {
        let mut rows = vec![["member", "host", "instance", "partitions"].map(str::to_owned).to_vec()];
        for member in members {
            let partitions = if member.idle { "idle".to_owned() } else { member.partitions.join(" ") };
            rows.push(vec![name(members, member), member.host.clone(), dash(&member.instance_id), partitions]);
        }
        text.push('\n');
        text.push_str(&table(&rows, 0..0));
    }
    if !answer.partitions.is_empty() {
        let head = ["partition", "committed", "end", "lag", "done beyond", "member"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for partition in &answer.partitions {
            let owner = members.iter().find(|member| Some(&member.id) == partition.member.as_ref());
            rows.push(vec![
                partition.name(),
                dash(&partition.committed),
                dash(&partition.end),
                dash(&partition.lag),
                dash(&partition.done_beyond),
                owner.map_or_else(|| "-".to_owned(), |owner| name(members, owner)),
            ]);
        }
        text.push('\n');
        text.push_str(&table(&rows, 1..5));
    }
    let of_partitions = answer.partitions.iter().filter_map(|partition| {
        let note = partition.note.as_ref()?;
        Some(format!("{}: {note}", partition.name()))
    });
    let notes: Vec<_> = answer.notes.iter().cloned().chain(of_partitions).collect();
    if !notes.is_empty() {
        text.push_str(&format!("\n{}\n", notes.join("\n")));
    }
    text.truncate(text.trim_end().len());
    text
}

/// The client's id if that tells them apart, else the member's.
fn name(members: &[Member], member: &Member) -> String {
    let namesakes = members.iter().filter(|other| other.client_id == member.client_id).count();
    if namesakes == 1 { member.client_id.clone() } else { member.id.clone() }
}

fn some(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn dash(value: &Option<impl ToString>) -> String {
    value.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
}

/// Columns of numbers are aligned to the right.
fn table(rows: &[Vec<String>], numbers: std::ops::Range<usize>) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "   " };
            let cell = if numbers.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:width$}") };
            line.push_str(&format!("{gap}{cell}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Partition;
    use super::*;

    #[test]
    fn members_of_one_client_id_are_told_apart_and_the_idle_are_named() {
        let member = |id: &str, client: &str, partitions: &[&str]| Member {
            id: id.to_owned(),
            client_id: client.to_owned(),
            host: "10.0.0.1".to_owned(),
            instance_id: None,
            idle: partitions.is_empty(),
            partitions: partitions.iter().map(|&partition| partition.to_owned()).collect(),
        };
        let partition = Partition {
            topic: "t".to_owned(),
            partition: 0,
            member: Some("a-1".to_owned()),
            committed: Some(7),
            end: Some(10),
            lag: Some(3),
            done_beyond: Some(1),
            note: Some("odd".to_owned()),
        };
        let answer = Answer {
            group: "g".to_owned(),
            exists: true,
            state: Some("Stable".to_owned()),
            members: Some(vec![member("a-1", "a", &["t/0"]), member("b-1", "b", &[]), member("b-2", "b", &[])]),
            partitions: vec![partition],
            lag: 3,
            done_beyond: 1,
            ..Answer::default()
        };
        let expected = "\
g: Stable, 3 members (2 idle), 1 partition, lag 3, of it done 1

member   host       instance   partitions
a        10.0.0.1   -          t/0
b-1      10.0.0.1   -          idle
b-2      10.0.0.1   -          idle

partition   committed   end   lag   done beyond   member
t/0                 7    10     3             1   a

t/0: odd";
        assert_eq!(of(&answer), expected);
    }
}
