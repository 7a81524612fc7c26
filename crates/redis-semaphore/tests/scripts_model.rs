//! The scripts against a model of them in Rust, step by step, on a real Redis: the reply of each step, and who holds
//! and waits after it.
//!
//! Nothing ends by itself within a test. Time passes when the test says so: it moves a permit's end, or a waiter's last
//! sign of life, into the past.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use proptest::prelude::*;
use redis_lua::Name;
use redis_lua::redis::cmd;
use redis_semaphore::{Client, Form, ReleaseOutcome, Semaphore, SemaphoreError, Semaphores};
use turnstile_core::{GrantReply, GrantRequest, LeaseBackend, Owner, RenewReply, Renewal};
use turnstile_testkit::unique;

const OWNERS: usize = 8;
const LIMIT: u32 = 5;
const TTL: Duration = Duration::from_secs(600);

/// How an owner asks: always alike, as one acquire does.
#[derive(Debug, Clone, Copy)]
struct Manner {
    weight: u32,
    fair: bool,
    waits: bool,
    any_limit: bool,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Ask(usize),
    Renew(usize),
    Release(usize),
    PermitEnds(usize),
    WaiterDies(usize),
    Limit(u32),
    Review,
}

fn manner() -> impl Strategy<Value = Manner> {
    let chance = prop::bool::weighted;
    (1..4u32, chance(0.8), chance(0.9), chance(0.5)).prop_map(|(weight, fair, waits, any_limit)| Manner {
        weight,
        fair,
        waits,
        any_limit,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..OWNERS).prop_map(Step::Ask),
        1 => (0..OWNERS).prop_map(Step::Renew),
        5 => (0..OWNERS).prop_map(Step::Release),
        2 => (0..OWNERS).prop_map(Step::PermitEnds),
        2 => (0..OWNERS).prop_map(Step::WaiterDies),
        1 => (1..=LIMIT + 1).prop_map(Step::Limit),
        1 => Just(Step::Review),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Permit {
    owner: usize,
    weight: u32,
    token: u64,
    confirmed: bool,
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    owner: usize,
    alive: bool,
}

#[derive(Debug)]
struct Model {
    manners: Vec<Manner>,
    limit: u32,
    token: u64,
    permits: Vec<Permit>,
    queue: Vec<Place>,
}

#[derive(Debug, PartialEq)]
enum Reply {
    Granted(u64),
    Refused { ahead: Option<u64> },
    OtherLimit,
    TooHeavy,
    Renewed(bool),
    Released(ReleaseOutcome),
    Held(u32),
}

impl Model {
    fn used(&self) -> u32 {
        self.permits.iter().map(|permit| permit.weight).sum()
    }

    fn fits(&self, owner: usize) -> bool {
        self.used() + self.manners[owner].weight <= self.limit
    }

    fn is_refused(&self, owner: usize) -> bool {
        let Manner { weight, any_limit, .. } = self.manners[owner];
        (!any_limit && self.limit != LIMIT) || weight > self.limit
    }

    fn give(&mut self, owner: usize, confirmed: bool) -> u64 {
        self.token += 1;
        let (weight, token) = (self.manners[owner].weight, self.token);
        self.permits.push(Permit { owner, weight, token, confirmed, ended: false });
        token
    }

    fn leave(&mut self, owner: usize) {
        self.queue.retain(|place| place.owner != owner);
    }

    fn serve(&mut self) {
        self.permits.retain(|permit| !permit.ended);
        while self.used() < self.limit
            && let Some(&Place { owner, alive }) = self.queue.first()
        {
            if alive && !self.is_refused(owner) {
                if !self.fits(owner) {
                    return;
                }
                self.give(owner, false);
            }
            self.leave(owner);
        }
    }

    fn confirm(&mut self, owner: usize) -> Option<Reply> {
        let permit = self.permits.iter_mut().find(|permit| permit.owner == owner && !permit.ended)?;
        permit.confirmed = true;
        Some(Reply::Granted(permit.token))
    }

    fn ask(&mut self, owner: usize) -> Reply {
        if let Some(granted) = self.confirm(owner) {
            return granted;
        }
        let Manner { fair, waits, any_limit, .. } = self.manners[owner];
        if self.is_refused(owner) {
            self.leave(owner);
            self.serve();
            return if any_limit || self.limit == LIMIT { Reply::TooHeavy } else { Reply::OtherLimit };
        }
        self.permits.retain(|permit| !permit.ended);
        if fair {
            self.serve();
            if let Some(granted) = self.confirm(owner) {
                return granted;
            }
        }
        let token = ((self.queue.is_empty() || !fair) && self.fits(owner)).then(|| self.give(owner, true));
        if !fair {
            self.serve();
        }
        if let Some(token) = token {
            return Reply::Granted(token);
        }
        if !(fair && waits) {
            return Reply::Refused { ahead: None };
        }
        match self.queue.iter_mut().find(|place| place.owner == owner) {
            Some(place) => place.alive = true,
            None => self.queue.push(Place { owner, alive: true }),
        }
        let ahead = self.queue.iter().take_while(|place| place.owner != owner).count();
        Reply::Refused { ahead: Some(ahead as u64) }
    }

    fn release(&mut self, owner: usize) -> Reply {
        let held = self.permits.iter().position(|permit| permit.owner == owner).map(|at| self.permits.remove(at));
        if held.is_some() || self.queue.iter().any(|place| place.owner == owner) {
            if held.is_none() {
                self.leave(owner);
            }
            self.serve();
        }
        Reply::Released(match held {
            Some(Permit { ended: false, .. }) => ReleaseOutcome::Released,
            _ => ReleaseOutcome::AlreadyExpired,
        })
    }
}

async fn ask(semaphores: &Semaphores, semaphore: &Semaphore, owner: Owner, waits: bool) -> Reply {
    let mut request = GrantRequest::new(semaphore.resource(), owner, TTL);
    request.asks_again_within = waits.then_some(TTL);
    match semaphores.manager().backend().grant(request).await {
        Ok(GrantReply::Granted { first_token }) => Reply::Granted(first_token.get()),
        Ok(GrantReply::Refused { ahead, .. }) => Reply::Refused { ahead },
        Ok(other) => panic!("{other:?}"),
        Err(error) => {
            let source = std::error::Error::source(&error).unwrap();
            let reason = source.downcast_ref::<SemaphoreError>().cloned().unwrap_or_else(|| {
                let shared = source.downcast_ref::<std::sync::Arc<dyn std::error::Error + Send + Sync>>().unwrap();
                shared.downcast_ref::<SemaphoreError>().unwrap().clone()
            });
            match reason {
                SemaphoreError::OtherLimit { .. } => Reply::OtherLimit,
                SemaphoreError::TooHeavy { .. } => Reply::TooHeavy,
                other => panic!("{other:?}"),
            }
        }
    }
}

async fn case(semaphores: &Semaphores, raw: &Client, form: Form, manners: &[Manner], steps: &[Step]) {
    let name = Name::new(unique("model")).unwrap();
    let make = |limit| match form {
        Form::Set => semaphores.by_set(name.as_str(), limit).unwrap(),
        Form::Counter => semaphores.by_counter(name.as_str(), limit).unwrap(),
    };
    let semaphore = make(LIMIT).set_limit(LIMIT).await.unwrap();
    let asking: Vec<Semaphore> = manners
        .iter()
        .map(|manner| {
            let asking = semaphore.weighing(manner.weight).unwrap();
            let asking = if manner.fair { asking } else { asking.unfair() };
            if manner.any_limit { asking.by_any_limit() } else { asking }
        })
        .collect();
    let owners: Vec<Owner> = (0..OWNERS).map(|_| Owner::random()).collect();
    let number = |owner: &str| owners.iter().position(|other| other.to_string() == owner).unwrap();
    let (backend, resource) = (semaphores.manager().backend(), semaphore.resource());
    let past = async |key: &str, owner: usize| {
        let mut write = cmd("ZADD");
        write.arg(name.key(key)).arg("XX").arg(1).arg(owners[owner].to_string());
        raw.run::<()>(&write).await.unwrap();
    };
    let mut model = Model { manners: manners.to_vec(), limit: LIMIT, token: 0, permits: Vec::new(), queue: Vec::new() };
    for (at, step) in steps.iter().enumerate() {
        let (seen, expected) = match *step {
            Step::Ask(owner) => {
                (ask(semaphores, &asking[owner], owners[owner], manners[owner].waits).await, model.ask(owner))
            }
            Step::Renew(owner) => {
                let reply = backend.renew(&[Renewal::new(resource.clone(), owners[owner], TTL)]).await.remove(0);
                let held = model.permits.iter().any(|permit| permit.owner == owner && !permit.ended);
                (Reply::Renewed(reply.unwrap() == RenewReply::Renewed), Reply::Renewed(held))
            }
            Step::Release(owner) => {
                let reply = backend.release(resource, owners[owner]).await.unwrap();
                (Reply::Released(reply.outcome), model.release(owner))
            }
            Step::PermitEnds(owner) => {
                past("permits", owner).await;
                model.permits.iter_mut().filter(|permit| permit.owner == owner).for_each(|permit| permit.ended = true);
                continue;
            }
            Step::WaiterDies(owner) => {
                past("alive", owner).await;
                model.queue.iter_mut().filter(|place| place.owner == owner).for_each(|place| place.alive = false);
                continue;
            }
            Step::Limit(limit) => {
                make(LIMIT).set_limit(limit).await.unwrap();
                model.limit = limit;
                let refused: Vec<usize> =
                    model.queue.iter().map(|place| place.owner).filter(|owner| model.is_refused(*owner)).collect();
                refused.into_iter().for_each(|owner| model.leave(owner));
                model.serve();
                continue;
            }
            Step::Review => {
                let review = semaphore.review().await.unwrap();
                model.permits.retain(|permit| !permit.ended);
                let held = model.used();
                model.serve();
                (Reply::Held(review.after.try_into().unwrap()), Reply::Held(held))
            }
        };
        let story = format!("step {at} of {steps:?} by {manners:?}");
        assert_eq!(seen, expected, "{story}");
        let state = semaphore.state().await.unwrap();
        assert_eq!((state.form, state.limit), (Some(form), Some(model.limit)), "{story}");
        let mut holders: Vec<_> =
            state.holders.iter().map(|h| (h.token.get(), number(&h.owner), h.weight, h.confirmed)).collect();
        holders.sort_unstable();
        let held = model.permits.iter().filter(|permit| !permit.ended);
        let held: Vec<_> = held.map(|p| (p.token, p.owner, p.weight, p.confirmed)).collect();
        assert_eq!(holders, held, "{story}");
        let queue: Vec<_> = state.queue.iter().map(|waiter| number(&waiter.owner)).collect();
        let waiting: Vec<_> = model.queue.iter().filter(|place| place.alive).map(|place| place.owner).collect();
        assert_eq!(queue, waiting, "{story}");
    }
    // Whoever is left goes away: then nothing is left.
    for owner in owners {
        backend.release(resource, owner).await.unwrap();
    }
    let state = semaphore.state().await.unwrap();
    assert!(state.holders.is_empty() && state.queue.is_empty(), "{state:?}");
    assert_eq!(semaphore.review().await.unwrap().before, 0, "the counter says so too");
}

#[test]
fn the_scripts_do_as_the_model_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (semaphores, raw) = runtime.block_on(async {
        let client = Client::connect(turnstile_testkit::redis::shared().await.unwrap().url()).await.unwrap();
        (Semaphores::builder(client.clone()).heartbeat(Duration::from_secs(3_600)).build(), client)
    });
    for form in [Form::Set, Form::Counter] {
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases: 100,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let cases = (prop::collection::vec(manner(), OWNERS), prop::collection::vec(step(), 1..40));
        let checked = runner.run(&cases, |(manners, steps)| {
            runtime.block_on(case(&semaphores, &raw, form, &manners, &steps));
            Ok(())
        });
        checked.unwrap();
    }
}
