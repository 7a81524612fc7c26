//! Finds names on a Redis that others use too: by SCAN, in small steps, and never by more of them than is allowed.
//!
//! All keys of a name have its hash tag, so the server sends none without braces. What is kept beside a name tells by its
//! ending what the name is; of other keys the type is asked for.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use redis_lua::redis::cmd;
use redis_lua::{Client, Error, Name};

/// What SCAN looks at in one step: the server serves nobody else meanwhile.
const STEP: u64 = 1_000;
/// So many names of a kind are kept, and so many types asked for, each frame: others may have keys with braces as well.
const MOST: usize = 1_000;
/// Questions that are under way at a time.
pub const AT_A_TIME: usize = 64;

/// What has been found so far.
#[derive(Default)]
pub struct Names {
    cursor: u64,
    pub locks: BTreeSet<String>,
    pub semaphores: BTreeSet<String>,
    pub queues: BTreeSet<String>,
    /// Names beside which there is what only a queue's workers write.
    worked: BTreeSet<String>,
}

/// What a key tells.
#[derive(Debug, PartialEq)]
enum Told {
    Lock(String),
    Semaphore(String),
    Queue(String),
    /// The name has been worked on as a queue.
    Worked(String),
    /// It may be the main key of any of them.
    Main(String),
    Nothing,
}

impl Names {
    /// Looks at so many keys, from where it stopped before. Tells what was left out.
    pub async fn look(&mut self, client: &Client, keys: u64) -> Result<Option<String>, Error> {
        let mut main = BTreeSet::new();
        let mut left = keys;
        let mut left_out = false;
        while left > 0 {
            let mut scan = cmd("SCAN");
            scan.arg(self.cursor).arg("MATCH").arg("*{?*}*").arg("COUNT").arg(STEP.min(left));
            let (cursor, found): (u64, Vec<Vec<u8>>) = client.run(&scan).await?;
            for key in found.iter().filter_map(|key| str::from_utf8(key).ok()) {
                let (names, name) = match told(key) {
                    Told::Lock(name) => (&mut self.locks, name),
                    Told::Semaphore(name) => (&mut self.semaphores, name),
                    Told::Queue(name) => (&mut self.queues, name),
                    Told::Worked(name) => (&mut self.worked, name),
                    Told::Main(name) => (&mut main, name),
                    Told::Nothing => continue,
                };
                if names.len() < MOST {
                    names.insert(name);
                } else {
                    left_out |= !names.contains(&name);
                }
            }
            left = left.saturating_sub(STEP);
            self.cursor = cursor;
            if cursor == 0 {
                break;
            }
        }
        self.sort_out(client, main).await?;
        let rest = self.cursor != 0 && keys > 0;
        Ok(match (rest, left_out) {
            (_, true) => Some(format!("more than {MOST} names of a kind: give those that matter, as --queue NAME")),
            (true, _) => Some(format!(
                "SCAN has looked at {keys} keys for this frame and not at all: see --scan, or give names, as --queue NAME"
            )),
            _ => None,
        })
    }

    /// Asks for the types of main keys.
    async fn sort_out(&mut self, client: &Client, main: BTreeSet<String>) -> Result<(), Error> {
        let known = |name: &String| [&self.locks, &self.semaphores, &self.queues].iter().any(|set| set.contains(name));
        let main: Vec<_> =
            main.into_iter().filter(|name| !known(name)).filter_map(|name| Name::new(name).ok()).collect();
        let kinds = main.iter().map(|name| async move {
            let kind: String = client.run(cmd("TYPE").arg(name.as_key())).await?;
            Ok::<_, Error>((name, kind))
        });
        let kinds: Vec<_> = stream::iter(kinds).buffered(AT_A_TIME).try_collect().await?;
        for (name, kind) in kinds {
            let names = match kind.as_str() {
                "string" => &mut self.locks,
                "hash" => &mut self.semaphores,
                "stream" if self.worked.contains(name.as_str()) || has_jobs(client, name).await? => &mut self.queues,
                _ => continue,
            };
            names.insert(name.as_str().to_owned());
        }
        Ok(())
    }
}

/// Whether the stream's first entry has a body, as jobs have: other software has streams with hash tags as well.
async fn has_jobs(client: &Client, name: &Name) -> Result<bool, Error> {
    let mut first = cmd("XRANGE");
    first.arg(name.as_key()).arg("-").arg("+").arg("COUNT").arg(1);
    let entries: Vec<(String, Vec<Vec<u8>>)> = client.run(&first).await?;
    Ok(entries.iter().any(|(_, fields)| fields.chunks(2).any(|pair| pair[0] == b"body")))
}

fn told(key: &str) -> Told {
    let (beside, word) = key.rsplit_once(':').unwrap_or((key, ""));
    let found = match word {
        "readers" => name_of(beside).map(Told::Lock),
        "permits" => name_of(beside).map(Told::Semaphore),
        "delayed" => name_of(beside).map(Told::Queue),
        // Of a queue, between the two stands a group.
        "alive" | "meta" | "due" | "lanes" | "dead" => {
            beside.rsplit_once(':').and_then(|(main, _)| name_of(main)).map(Told::Worked)
        }
        // Of those who wait for a fair lock or a semaphore, what they wait for has a main key too.
        "holders" | "waiters" => None,
        word if Name::RESERVED.contains(&word) => None,
        _ => name_of(key).map(Told::Main),
    };
    found.unwrap_or(Told::Nothing)
}

/// The name whose main key it is.
fn name_of(key: &str) -> Option<String> {
    let inner = key.strip_prefix('{').and_then(|key| key.strip_suffix('}')).unwrap_or(key);
    let name = Name::new(inner).ok().filter(|name| name.as_key() == key)?;
    Some(name.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_what_their_names_are() {
        let name = |name: &str| name.to_owned();
        let table = [
            ("{a}", Told::Main(name("a"))),
            ("{a:b}", Told::Main(name("a:b"))),
            ("{t}:a", Told::Main(name("{t}:a"))),
            ("{a}:readers", Told::Lock(name("a"))),
            ("{t}:a:readers", Told::Lock(name("{t}:a"))),
            ("{a}:permits", Told::Semaphore(name("a"))),
            ("{a}:delayed", Told::Queue(name("a"))),
            ("{a}:workers:alive", Told::Worked(name("a"))),
            ("{t}:a:workers:dead", Told::Worked(name("{t}:a"))),
        ];
        for (key, expected) in table {
            assert_eq!(told(key), expected, "{key}");
        }
        for key in ["a", "{}", "a{}b", "{a}{b}", "{a}:fence", "{a}:holder", "{a}:holders", "{a}:waiting", "{a}:alive"] {
            assert_eq!(told(key), Told::Nothing, "{key}");
        }
    }
}
