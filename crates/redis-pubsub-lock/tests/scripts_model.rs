//! The scripts against a model of them in Rust, step by step, on a real Redis: the reply of each step, and who holds
//! and waits after it.
//!
//! Nothing ends by itself within a test. Time passes when the test says so: it deletes the lock, or moves a waiter's last
//! sign of life into the past.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use proptest::prelude::*;
use redis_lua::Name;
use redis_lua::redis::cmd;
use redis_pubsub_lock::{FairLocks, ReleaseOutcome};
use support::{client, name};
use turnstile_core::{GrantReply, GrantRequest, LeaseBackend, Owner, RenewReply, Renewal};

const OWNERS: usize = 6;
const TTL: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy)]
enum Step {
    Ask { owner: usize, waits: bool, tokens: u32 },
    Renew(usize),
    Release(usize),
    LockEnds,
    WaiterDies(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..OWNERS, prop::bool::weighted(0.9), 1..4u32)
            .prop_map(|(owner, waits, tokens)| Step::Ask { owner, waits, tokens }),
        1 => (0..OWNERS).prop_map(Step::Renew),
        4 => (0..OWNERS).prop_map(Step::Release),
        1 => Just(Step::LockEnds),
        2 => (0..OWNERS).prop_map(Step::WaiterDies),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Held {
    owner: usize,
    token: u64,
    confirmed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    owner: usize,
    tokens: u32,
    alive: bool,
}

#[derive(Debug, Default)]
struct Model {
    held: Option<Held>,
    fence: u64,
    queue: Vec<Place>,
}

#[derive(Debug, PartialEq)]
enum Reply {
    Granted(u64),
    Refused { ahead: Option<u64> },
    Renewed(bool),
    Released(ReleaseOutcome),
}

impl Model {
    fn give(&mut self, owner: usize, tokens: u32, confirmed: bool) -> u64 {
        let token = self.fence + 1;
        self.fence += u64::from(tokens);
        self.held = Some(Held { owner, token, confirmed });
        token
    }

    fn pass_on(&mut self) {
        self.queue.retain(|place| place.alive);
        if let Some(&Place { owner, tokens, .. }) = self.queue.first() {
            self.give(owner, tokens, false);
        }
    }

    fn ask(&mut self, owner: usize, waits: bool, tokens: u32) -> Reply {
        if let Some(held) = self.held.as_mut().filter(|held| held.owner == owner) {
            held.confirmed = true;
            let token = held.token;
            self.queue.retain(|place| place.owner != owner);
            return Reply::Granted(token);
        }
        self.queue.retain(|place| place.alive);
        if self.held.is_none() {
            if self.queue.first().is_none_or(|head| head.owner == owner) {
                self.queue.retain(|place| place.owner != owner);
                return Reply::Granted(self.give(owner, tokens, true));
            }
            self.pass_on();
        }
        if !waits {
            return Reply::Refused { ahead: None };
        }
        if !self.queue.iter().any(|place| place.owner == owner) {
            self.queue.push(Place { owner, tokens, alive: true });
        }
        let holder = self.held.map(|held| held.owner);
        let before = self.queue.iter().take_while(|place| place.owner != owner);
        let ahead = before.filter(|place| Some(place.owner) != holder).count();
        Reply::Refused { ahead: Some(ahead as u64) }
    }

    fn release(&mut self, owner: usize) -> Reply {
        let outcome = match self.held {
            Some(held) if held.owner == owner => {
                self.held = None;
                ReleaseOutcome::Released
            }
            Some(_) => ReleaseOutcome::TakenOver,
            None => ReleaseOutcome::AlreadyExpired,
        };
        self.queue.retain(|place| place.owner != owner);
        if self.held.is_none() {
            self.pass_on();
        }
        Reply::Released(outcome)
    }

    fn waiting(&self) -> Vec<usize> {
        let holder = self.held.map(|held| held.owner);
        let waits = |place: &&Place| place.alive && Some(place.owner) != holder;
        self.queue.iter().filter(waits).map(|place| place.owner).collect()
    }
}

async fn case(locks: &FairLocks, steps: &[Step]) {
    let raw = client().await;
    let name = Name::new(name("model")).unwrap();
    let lock = locks.lock(name.as_str()).unwrap();
    let (backend, resource) = (locks.manager().backend(), lock.resource());
    let owners: Vec<Owner> = (0..OWNERS).map(|_| Owner::random()).collect();
    let number = |owner: &str| owners.iter().position(|other| other.to_string() == owner).unwrap();
    let mut model = Model::default();
    for (at, step) in steps.iter().enumerate() {
        let (seen, expected) = match *step {
            Step::Ask { owner, waits, tokens } => {
                let mut request = GrantRequest::new(resource, owners[owner], TTL);
                request.tokens = tokens.try_into().unwrap();
                request.asks_again_within = waits.then_some(TTL);
                let seen = match backend.grant(request).await.unwrap() {
                    GrantReply::Granted { first_token } => Reply::Granted(first_token.get()),
                    GrantReply::Refused { ahead, .. } => Reply::Refused { ahead },
                    other => panic!("{other:?}"),
                };
                (seen, model.ask(owner, waits, tokens))
            }
            Step::Renew(owner) => {
                let reply = backend.renew(&[Renewal::new(resource.clone(), owners[owner], TTL)]).await.remove(0);
                let held = model.held.is_some_and(|held| held.owner == owner);
                (Reply::Renewed(reply.unwrap() == RenewReply::Renewed), Reply::Renewed(held))
            }
            Step::Release(owner) => {
                let reply = backend.release(resource, owners[owner]).await.unwrap();
                (Reply::Released(reply.outcome), model.release(owner))
            }
            Step::LockEnds => {
                raw.run::<()>(cmd("DEL").arg(name.as_key())).await.unwrap();
                model.held = None;
                continue;
            }
            Step::WaiterDies(owner) => {
                let (key, owner_text) = (name.key("alive"), owners[owner].to_string());
                raw.run::<()>(cmd("ZADD").arg(key).arg("XX").arg(1).arg(owner_text)).await.unwrap();
                model.queue.iter_mut().filter(|place| place.owner == owner).for_each(|place| place.alive = false);
                continue;
            }
        };
        let story = format!("step {at} of {steps:?}");
        assert_eq!(seen, expected, "{story}");
        let holder = locks.who(name.as_str()).await.unwrap().map(|holder| Held {
            owner: number(&holder.owner),
            token: holder.token.get(),
            confirmed: holder.confirmed,
        });
        assert_eq!(holder, model.held, "{story}");
        let queue: Vec<_> = locks.queue(name.as_str()).await.unwrap().iter().map(|w| number(&w.owner)).collect();
        assert_eq!(queue, model.waiting(), "{story}");
    }
    // Whoever is left goes away: then nothing is left.
    for owner in owners {
        backend.release(resource, owner).await.unwrap();
    }
    assert_eq!((locks.who(name.as_str()).await.unwrap(), locks.queue(name.as_str()).await.unwrap()), (None, vec![]));
}

#[test]
fn the_scripts_do_as_the_model_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let locks =
        runtime.block_on(async { FairLocks::builder(client().await).heartbeat(Duration::from_secs(3_600)).build() });
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let checked = runner.run(&prop::collection::vec(step(), 1..40), |steps| {
        runtime.block_on(case(&locks, &steps));
        Ok(())
    });
    checked.unwrap();
}
