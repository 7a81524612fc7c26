//! The scripts against a model of them in Rust, step by step, on a real Redis: the reply of each step, and what it
//! leaves behind.
//!
//! Times to live are far longer than a test runs, so nothing ends by itself. Time passes when the test says so: it
//! deletes what has ended, or, for one reader among others, moves its end into the past.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;
use redis_lock::{Client, LockResource, RedisLocks};
use redis_lua::redis::cmd;
use redis_lua::{Name, Script};
use support::client;
use turnstile_core::{GrantReply, GrantRequest, LeaseBackend, Owner, ReleaseOutcome, RenewReply, Renewal};

const LABEL: &str = "a holder: 100%";
const OWNERS: usize = 4;
const NAMES: usize = 3;
/// Times to live, told apart by what is left of them.
const TTLS: [u64; 3] = [600_000, 1_200_000, 2_400_000];
const ASKS_AGAIN: u64 = 300_000;
/// What a case may take at the very most.
const SLACK: u64 = 120_000;

/// What is asked for: names as bits, or one name shared.
#[derive(Debug, Clone, Copy)]
enum What {
    Exclusive(u8),
    Shared(usize),
}

#[derive(Debug, Clone)]
enum Step {
    Grant {
        what: What,
        owner: usize,
        ttl: usize,
        tokens: u32,
        waits: bool,
    },
    Renew(Vec<(What, usize, usize)>),
    Release(What, usize),
    LockEnds(usize),
    /// All shares of one owner.
    ReaderEnds(usize),
    AllReadersEnd(usize),
    MarkEnds(usize),
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        3 => (0..NAMES).prop_map(|name| What::Exclusive(1 << name)),
        2 => (1..1u8 << NAMES).prop_map(What::Exclusive),
        3 => (0..NAMES).prop_map(What::Shared),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let grant = (what(), 0..OWNERS, 0..TTLS.len(), 1..5u32, any::<bool>());
    prop_oneof![
        8 => grant.prop_map(|(what, owner, ttl, tokens, waits)| Step::Grant { what, owner, ttl, tokens, waits }),
        3 => proptest::collection::vec((what(), 0..OWNERS, 0..TTLS.len()), 1..6).prop_map(Step::Renew),
        4 => (what(), 0..OWNERS).prop_map(|(what, owner)| Step::Release(what, owner)),
        1 => (0..NAMES).prop_map(Step::LockEnds),
        3 => (0..OWNERS).prop_map(Step::ReaderEnds),
        1 => (0..NAMES).prop_map(Step::AllReadersEnd),
        1 => (0..NAMES).prop_map(Step::MarkEnds),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mark {
    Reader,
    Owner(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Held {
    owner: usize,
    token: u64,
    ttl: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Share {
    token: u64,
    /// `None` when it has ended.
    ttl: Option<u64>,
}

/// All that is kept of one name.
#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    lock: Option<Held>,
    fence: u64,
    readers: BTreeMap<usize, Share>,
    /// Of the keys of the readers and their labels.
    readers_ttl: u64,
    mark: Option<Mark>,
}

impl State {
    fn holds(&self, owner: usize) -> bool {
        self.lock.is_some_and(|held| held.owner == owner)
    }

    fn is_read(&self) -> bool {
        self.readers.values().any(|share| share.ttl.is_some())
    }

    fn share_for(&mut self, owner: usize, share: Share) {
        let ttl = share.ttl.unwrap_or_default();
        self.readers_ttl = if self.readers.is_empty() { ttl } else { self.readers_ttl.max(ttl) };
        self.readers.insert(owner, share);
    }
}

impl What {
    fn names(self) -> Vec<usize> {
        match self {
            Self::Exclusive(bits) => (0..NAMES).filter(|name| bits & 1 << name != 0).collect(),
            Self::Shared(name) => vec![name],
        }
    }
}

type Model = [State; NAMES];

/// The token, or none where it is refused.
fn grant(model: &mut Model, what: What, owner: usize, ttl: u64, tokens: u64, waits: bool) -> Option<u64> {
    let names = what.names();
    if let What::Shared(name) = what {
        let state = &mut model[name];
        if let Some(&Share { token, ttl: Some(_) }) = state.readers.get(&owner) {
            state.share_for(owner, Share { token, ttl: Some(ttl) });
            return Some(token);
        }
        if state.lock.is_some() || matches!(state.mark, Some(Mark::Owner(_))) {
            if waits && state.mark.is_none() {
                state.mark = Some(Mark::Reader);
            }
            return None;
        }
        state.readers.retain(|_, share| share.ttl.is_some());
        let token = state.fence + 1;
        state.fence += tokens;
        state.share_for(owner, Share { token, ttl: Some(ttl) });
        return Some(token);
    }
    let blocked = |state: &State| state.is_read() || state.lock.is_some_and(|held| held.owner != owner);
    if names.iter().any(|&name| blocked(&model[name])) {
        for name in names {
            model[name].lock = model[name].lock.filter(|held| held.owner != owner);
            if waits {
                model[name].mark = Some(Mark::Owner(owner));
            }
        }
        return None;
    }
    let again = names.iter().all(|&name| model[name].holds(owner));
    let last = names.iter().map(|&name| model[name].fence + tokens).max()?;
    let mut token = last - tokens + 1;
    for name in names {
        let state = &mut model[name];
        if let Some(held) = state.lock.filter(|_| again) {
            token = held.token;
        } else {
            state.fence = last;
            state.mark = state.mark.filter(|mark| *mark != Mark::Owner(owner));
        }
        let token = if again { state.lock.map_or(0, |held| held.token) } else { token };
        state.lock = Some(Held { owner, token, ttl });
    }
    Some(token)
}

fn renew(model: &mut Model, what: What, owner: usize, ttl: u64) -> RenewReply {
    let held = match what {
        What::Exclusive(_) => what.names().iter().all(|&name| model[name].holds(owner)),
        What::Shared(name) => model[name].readers.get(&owner).is_some_and(|share| share.ttl.is_some()),
    };
    if !held {
        return RenewReply::NotHeld;
    }
    for name in what.names() {
        let state = &mut model[name];
        match (what, state.readers.get(&owner).copied()) {
            (What::Shared(_), Some(share)) => state.share_for(owner, Share { ttl: Some(ttl), ..share }),
            _ => state.lock = state.lock.map(|held| Held { ttl, ..held }),
        }
    }
    RenewReply::Renewed
}

/// What is found, and whether somebody waits.
fn release(model: &mut Model, what: What, owner: usize) -> (ReleaseOutcome, bool) {
    let names = what.names();
    let wanted = names.iter().any(|&name| model[name].mark.is_some());
    let outcome = match what {
        What::Shared(name) => match model[name].readers.remove(&owner) {
            Some(Share { ttl: Some(_), .. }) => ReleaseOutcome::Released,
            _ => ReleaseOutcome::AlreadyExpired,
        },
        What::Exclusive(_) if names.iter().all(|&name| model[name].holds(owner)) => ReleaseOutcome::Released,
        What::Exclusive(_) if names.iter().any(|&name| model[name].lock.is_some_and(|held| held.owner != owner)) => {
            ReleaseOutcome::TakenOver
        }
        What::Exclusive(_) => ReleaseOutcome::AlreadyExpired,
    };
    if let What::Exclusive(_) = what {
        for name in names {
            model[name].lock = model[name].lock.filter(|held| held.owner != owner);
        }
    }
    (outcome, wanted)
}

static DUMP: Script = Script::new(
    "dump",
    "local time = redis.call('TIME')
     return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]),
             tonumber(redis.call('GET', KEYS[2]) or 0), redis.call('PTTL', KEYS[2]),
             redis.call('GET', KEYS[3]), redis.call('PTTL', KEYS[3]),
             redis.call('ZRANGE', KEYS[4], 0, -1, 'WITHSCORES'), redis.call('PTTL', KEYS[4]),
             redis.call('HGETALL', KEYS[5]), redis.call('PTTL', KEYS[5]),
             time[1] * 1000 + math.floor(time[2] / 1000)}",
);

type Dump = (Option<String>, i64, u64, i64, Option<String>, i64, Vec<String>, i64, Vec<String>, i64, u64);

/// One case: its own names and owners on the server.
struct Case {
    client: Client,
    locks: RedisLocks,
    names: Vec<String>,
    owners: Vec<Owner>,
}

impl Case {
    async fn new() -> Self {
        let client = client().await;
        let locks = RedisLocks::builder(client.clone()).holder(LABEL).build();
        let stem = support::name("model");
        let names = (0..NAMES).map(|name| format!("{stem}/{name}")).collect();
        Self { client, locks, names, owners: (0..OWNERS).map(|_| Owner::random()).collect() }
    }

    fn resource(&self, what: What) -> LockResource {
        let names: Vec<_> = what.names().into_iter().map(|name| &self.names[name]).collect();
        let lock = match (what, &*names) {
            (What::Shared(_), _) => self.locks.read(names[0]),
            (What::Exclusive(_), [name]) => self.locks.lock(name),
            (What::Exclusive(_), _) => self.locks.all(names),
        };
        lock.unwrap().resource().clone()
    }

    fn owner(&self, hex: &str) -> usize {
        self.owners.iter().position(|owner| owner.to_string() == hex).unwrap()
    }

    async fn run(&self, command: &str, name: usize, suffix: &str, rest: &[&str]) {
        let mut command = cmd(command);
        command.arg(format!("{{{}}}{suffix}", self.names[name])).arg(rest);
        self.client.run::<()>(&command).await.unwrap();
    }

    /// What the server keeps of a name. That each key but the fence has a time to live is checked here.
    async fn state(&self, name: usize) -> State {
        let name = Name::new(&self.names[name]).unwrap();
        let call = DUMP.keys([
            (&name).into(),
            name.key("fence"),
            name.key("waiting"),
            name.key("readers"),
            name.key("holder"),
        ]);
        let dump: Dump = call.run(&self.client).await.unwrap();
        let (lock, lock_left, fence, fence_left, mark, mark_left, readers, readers_left, labels, labels_left, now) =
            dump;

        assert!(fence_left == -1 || fence == 0, "a fencing counter ends");
        assert!(mark.is_none() || (1..=ASKS_AGAIN as i64 + 1_000).contains(&mark_left), "{mark_left}");
        assert_eq!(readers.is_empty(), labels.is_empty(), "{readers:?} {labels:?}");
        let details = |text: &str| {
            let (token, rest) = text.split_once(' ').unwrap();
            let (since, label) = rest.split_once(' ').unwrap();
            assert_eq!(label, LABEL);
            assert!(since.parse::<u64>().unwrap().abs_diff(now) < SLACK);
            token.parse().unwrap()
        };
        let lock = lock.map(|value| {
            let (owner, rest) = value.split_once(' ').unwrap();
            Held { owner: self.owner(owner), token: details(rest), ttl: rounded(lock_left) }
        });
        let labels: BTreeMap<_, _> = labels.chunks(2).map(|pair| (self.owner(&pair[0]), details(&pair[1]))).collect();
        let share = |pair: &[String]| {
            let (owner, end) = (self.owner(&pair[0]), pair[1].parse::<f64>().unwrap() as i64);
            let left = end - now as i64;
            (owner, Share { token: labels[&owner], ttl: (left > 0).then(|| rounded(left)) })
        };
        let readers: BTreeMap<_, _> = readers.chunks(2).map(share).collect();
        assert_eq!(readers.len(), labels.len());
        let readers_ttl = if readers.is_empty() { 0 } else { rounded(readers_left) };
        assert_eq!(readers_ttl, if readers.is_empty() { 0 } else { rounded(labels_left) });
        let mark = mark.map(|mark| if mark == "reader" { Mark::Reader } else { Mark::Owner(self.owner(&mark)) });
        State { lock, fence, readers, readers_ttl, mark }
    }

    /// Does the step on both, and compares their replies.
    async fn step(&self, model: &mut Model, step: &Step) -> Result<(), TestCaseError> {
        let backend = self.locks.manager().backend();
        match *step {
            Step::Grant { what, owner, ttl, tokens, waits } => {
                let resource = self.resource(what);
                let ttl = TTLS[ttl];
                let mut request = GrantRequest::new(&resource, self.owners[owner], Duration::from_millis(ttl));
                request.tokens = NonZeroU32::new(tokens).unwrap();
                request.asks_again_within = waits.then_some(Duration::from_millis(ASKS_AGAIN));
                let token = match backend.grant(request).await.unwrap() {
                    GrantReply::Granted { first_token } => Some(first_token.get()),
                    GrantReply::Refused { ends_within, ahead } => {
                        prop_assert_eq!(ahead, None);
                        let longest = Duration::from_millis(TTLS[TTLS.len() - 1]);
                        prop_assert!(ends_within.is_some_and(|end| end <= longest), "{ends_within:?}");
                        None
                    }
                    other => panic!("{other:?}"),
                };
                prop_assert_eq!(token, grant(model, what, owner, ttl, tokens.into(), waits));
            }
            Step::Renew(ref batch) => {
                let renewal = |&(what, owner, ttl): &(What, usize, usize)| {
                    Renewal::new(self.resource(what), self.owners[owner], Duration::from_millis(TTLS[ttl]))
                };
                let batched: Vec<_> = batch.iter().map(renewal).collect();
                let replies = backend.renew(&batched).await;
                let replies: Vec<_> = replies.into_iter().map(Result::unwrap).collect();
                let expected = batch.iter().map(|&(what, owner, ttl)| renew(model, what, owner, TTLS[ttl]));
                prop_assert_eq!(replies, expected.collect::<Vec<_>>());
            }
            Step::Release(what, owner) => {
                let reply = backend.release(&self.resource(what), self.owners[owner]).await.unwrap();
                prop_assert!(reply.wanted_within.is_none_or(|within| within <= Duration::from_millis(ASKS_AGAIN)));
                prop_assert_eq!((reply.outcome, reply.wanted_within.is_some()), release(model, what, owner));
            }
            Step::LockEnds(name) => {
                self.run("DEL", name, "", &[]).await;
                model[name].lock = None;
            }
            Step::ReaderEnds(owner) => {
                for (name, state) in model.iter_mut().enumerate() {
                    self.run("ZADD", name, ":readers", &["XX", "1", &self.owners[owner].to_string()]).await;
                    if let Some(share) = state.readers.get_mut(&owner) {
                        share.ttl = None;
                    }
                }
            }
            Step::AllReadersEnd(name) => {
                self.run("DEL", name, ":readers", &[]).await;
                self.run("DEL", name, ":holder", &[]).await;
                model[name].readers.clear();
            }
            Step::MarkEnds(name) => {
                self.run("DEL", name, ":waiting", &[]).await;
                model[name].mark = None;
            }
        }
        Ok(())
    }
}

/// The time to live of which this is left.
fn rounded(left: i64) -> u64 {
    let left = u64::try_from(left).expect("a key that never ends");
    let fits = |ttl: &&u64| (**ttl - SLACK..=**ttl).contains(&left);
    TTLS.iter().find(fits).copied().unwrap_or_else(|| panic!("{left} ms are left"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_scripts_do_what_their_model_does(steps in proptest::collection::vec(step(), 1..48)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let case = Case::new().await;
            let mut model = Model::default();
            for step in &steps {
                case.step(&mut model, step).await?;
                for (name, expected) in model.iter_mut().enumerate() {
                    if expected.readers.is_empty() {
                        expected.readers_ttl = 0;
                    }
                    prop_assert_eq!(&case.state(name).await, &*expected, "after {:?}", step);
                }
                // The promise itself, whatever the model says.
                for state in &model {
                    prop_assert!(state.lock.is_none() || !state.is_read(), "held exclusively and shared");
                }
            }
            Ok(())
        })?;
    }
}
