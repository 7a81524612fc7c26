//! An effect outside of Kafka, once for each record: the offset is kept beside it, and one that is not higher is refused. The
//! "database" here is a map; in a real one, both are written in one transaction.

use std::collections::HashMap;

type Place = (&'static str, i32);

#[derive(Default)]
struct Database {
    balances: HashMap<&'static str, i64>,
    /// The highest offset of each partition whose effect is in.
    seen: HashMap<Place, i64>,
}

impl Database {
    /// Adds to a balance, unless that was done; whether it was not.
    fn add(&mut self, place: Place, offset: i64, account: &'static str, amount: i64) -> bool {
        let seen = self.seen.entry(place).or_insert(-1);
        if offset <= *seen {
            return false;
        }
        *seen = offset;
        *self.balances.entry(account).or_default() += amount;
        true
    }
}

fn main() {
    let mut database = Database::default();
    let place = ("payments", 0);
    assert!(database.add(place, 0, "ann", 10));
    assert!(database.add(place, 1, "ben", 5));
    // A member has died before its transaction was committed, and the next one handles both again.
    assert!(!database.add(place, 0, "ann", 10));
    assert!(!database.add(place, 1, "ben", 5));
    assert!(database.add(place, 2, "ann", 7));
    assert_eq!((database.balances["ann"], database.balances["ben"]), (17, 5));
    // This needs each partition in order: `TxnBuilder::in_order`. In parallel, keep the offset by key.
    println!("{:?}", database.balances);
}
