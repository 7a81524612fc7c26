//! What members of a classic group tell one another through the brokers, which do not look into it: the topics that each
//! wants, and the partitions that each was given (ConsumerProtocolSubscription and ConsumerProtocolAssignment).

/// The topics that a member subscribes to.
pub fn topics(metadata: &[u8]) -> Option<Vec<String>> {
    let mut bytes = Bytes(metadata);
    bytes.version()?;
    (0..bytes.count()?).map(|_| bytes.text()).collect()
}

/// The partitions that a member was given.
pub fn partitions(assignment: &[u8]) -> Option<Vec<(String, i32)>> {
    // Nothing at all: it has only just joined.
    if assignment.is_empty() {
        return Some(Vec::new());
    }
    let mut bytes = Bytes(assignment);
    bytes.version()?;
    let mut partitions = Vec::new();
    for _ in 0..bytes.count()? {
        let topic = bytes.text()?;
        for _ in 0..bytes.count()? {
            partitions.push((topic.clone(), bytes.int()?));
        }
    }
    Some(partitions)
}

/// The name that a static member was given. Brokers make the id of a member from it, or else from the client's id, and 36
/// random characters.
pub fn instance<'a>(member_id: &'a str, client_id: &str) -> Option<&'a str> {
    let (name, random) = member_id.split_at_checked(member_id.len().checked_sub(37)?)?;
    let is_random = random.starts_with('-') && random[1..].bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    (is_random && !name.is_empty() && name != client_id).then_some(name)
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn int(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn short(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// Later versions only add something at the end.
    fn version(&mut self) -> Option<i16> {
        self.short().filter(|version| *version >= 0)
    }

    /// Of an array, of which each element takes two bytes at the least.
    fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.int()?).ok()?;
        (count <= self.0.len() / 2).then_some(count)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.short()?).ok()?;
        Some(str::from_utf8(self.take(length)?).ok()?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSIGNMENT: &[u8] =
        b"\0\x01\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\x02bc\0\0\0\x01\0\0\0\0\xff\xff\xff\xff";

    #[test]
    fn partitions_are_read_and_nothing_else_is_taken_for_them() {
        let expected = [("a", 3), ("a", 4), ("bc", 0)].map(|(topic, partition)| (topic.to_owned(), partition));
        assert_eq!(partitions(ASSIGNMENT).unwrap(), expected);
        assert_eq!(partitions(b"").unwrap(), []);
        for length in 1..ASSIGNMENT.len() - 4 {
            assert_eq!(partitions(&ASSIGNMENT[..length]), None, "{length}");
        }
        assert_eq!(partitions(b"\0\0\x7f\xff\xff\xff\0\0"), None);
        assert_eq!(partitions(b"\xff\xff\0\0\0\0"), None);
    }

    #[test]
    fn topics_are_read() {
        let metadata = b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(topics(metadata).unwrap(), ["a", "bc"]);
        assert_eq!(topics(b"\0\x01\0\0\0\x02\0\x01a"), None);
    }

    #[test]
    fn a_static_member_is_known_by_its_id() {
        let random = "01234567-89ab-cdef-0123-456789abcdef";
        assert_eq!(instance(&format!("w-1-{random}"), "rdkafka"), Some("w-1"));
        assert_eq!(instance(&format!("rdkafka-{random}"), "rdkafka"), None);
        for id in ["", random, "w-1", "ü-01234567-89ab-cdef-0123-456789abcdeü"] {
            assert_eq!(instance(id, "rdkafka"), None, "{id}");
        }
    }
}
