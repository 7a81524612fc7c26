//! The shared state under every interleaving of two or three threads: `cargo test --features _shuttle --lib`.
//!
//! Shuttle runs each scenario many times, first every schedule in order as far as that goes, then random ones. A thread
//! that waits for a turn which never comes is a deadlock, which it reports. Each guard has a control: the guard
//! taken away, and shuttle seen to find the schedule that needs it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use shuttle::future::block_on;
use shuttle::thread;
use tokio::sync::Notify;

use crate::latch::Latch;
use crate::table::{Due, Entered, GivenUp, Granted, Hold, Table, Turn};
use crate::{
    AcquireError, BackendError, Clock, ErrorKind, FencingToken, GrantReply, GrantRequest, LeaseBackend, LeaseManager,
    LeaseOptions, Lock, LostReason, ManagedLock, Owner, ReleaseOutcome, ReleaseReply, RenewReply, Renewal,
};

const EVERY: usize = 1_000;
const RANDOM: usize = 400;

/// All schedules, as far as that goes; then random ones, of two sorts.
fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    let scenario = Arc::new(scenario);
    let run = || {
        let scenario = scenario.clone();
        move || scenario()
    };
    shuttle::check_dfs(run(), Some(EVERY));
    shuttle::check_pct(run(), RANDOM, 3);
    shuttle::check_random(run(), RANDOM);
}

/// Random schedules, as many as it takes to find a rare mistake.
fn find(scenario: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random(scenario, 50_000);
}

// ── A server, a clock and a keeper without time ─────────────────────────────────────────────────────────────────────────

/// A server of one lock, whose every call is one step. Who is refused waits until it is released.
#[derive(Default)]
struct Server {
    held: std::sync::Mutex<Option<Owner>>,
    tokens: AtomicU64,
    released: Notify,
    down: AtomicBool,
}

#[async_trait]
impl LeaseBackend for Server {
    type Resource = Arc<str>;
    const STRATEGY: &'static str = "test";

    async fn grant(&self, request: GrantRequest<'_, Arc<str>>) -> Result<GrantReply, BackendError> {
        yield_once().await;
        if self.down.load(Ordering::SeqCst) {
            return Err(BackendError::new(ErrorKind::Denied, "down"));
        }
        let mut held = self.held.lock().unwrap();
        if held.is_some_and(|owner| owner != request.owner) {
            return Ok(GrantReply::Refused { ends_within: None, ahead: None });
        }
        *held = Some(request.owner);
        let first = self.tokens.fetch_add(u64::from(request.tokens.get()), Ordering::SeqCst) + 1;
        Ok(GrantReply::Granted { first_token: FencingToken::new(first) })
    }

    async fn renew(&self, leases: &[Renewal<Arc<str>>]) -> Vec<Result<RenewReply, BackendError>> {
        vec![Ok(RenewReply::Renewed); leases.len()]
    }

    async fn release(&self, _: &Arc<str>, owner: Owner) -> Result<ReleaseReply, BackendError> {
        let mut held = self.held.lock().unwrap();
        if *held != Some(owner) {
            return Ok(ReleaseReply::new(ReleaseOutcome::TakenOver, None));
        }
        *held = None;
        self.released.notify_one();
        Ok(ReleaseReply::new(ReleaseOutcome::Released, None))
    }

    async fn wait(&self, _: &Arc<str>, _: Owner, _: Duration) {
        self.released.notified().await;
    }
}

#[derive(Debug)]
struct StandsStill;

impl Clock for StandsStill {
    fn now(&self) -> Duration {
        Duration::from_secs(1)
    }
}

async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A manager with `keeper` as the thread that does its chores, until the end.
struct World {
    lock: ManagedLock<Server>,
    done: Arc<AtomicBool>,
    keeper: thread::JoinHandle<()>,
}

impl World {
    fn new(options: LeaseOptions) -> Self {
        let lock = LeaseManager::with_clock(Server::default(), StandsStill).lock("x".into(), options);
        let done = Arc::new(AtomicBool::new(false));
        let (manager, ended) = (lock.manager().clone(), done.clone());
        let keeper = thread::spawn(move || {
            let table = manager.table();
            loop {
                let chores = table.due(1).chores;
                if chores.is_empty() && ended.load(Ordering::SeqCst) {
                    return;
                }
                if chores.is_empty() {
                    block_on(table.wake.notified());
                }
                chores.into_iter().for_each(block_on);
            }
        });
        Self { lock, done, keeper }
    }

    /// Waits for the clean-up; then nothing is held, and nobody in line.
    fn end(self) {
        self.done.store(true, Ordering::SeqCst);
        let manager = self.lock.manager().clone();
        manager.table().wake.notify_one();
        self.keeper.join().unwrap();
        assert!(manager.table().is_idle());
        assert_eq!(*manager.backend().held.lock().unwrap(), None);
    }
}

/// What must hold of those who hold it.
#[derive(Default)]
struct Oracle {
    inside: AtomicUsize,
    token: AtomicU64,
    served: AtomicUsize,
}

impl Oracle {
    fn visit(&self, token: FencingToken) {
        assert_eq!(self.inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
        assert!(self.token.swap(token.get(), Ordering::SeqCst) < token.get(), "tokens rise");
        thread::yield_now();
        self.inside.fetch_sub(1, Ordering::SeqCst);
        self.served.fetch_add(1, Ordering::SeqCst);
    }
}

fn options(handovers: u32) -> LeaseOptions {
    LeaseOptions::default().handover(handovers, Duration::from_secs(60))
}

// ── Callers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

fn one_at_a_time(handovers: u32) {
    let world = World::new(options(handovers));
    let oracle = Arc::new(Oracle::default());
    let callers: Vec<_> = (0..3)
        .map(|i| {
            let (lock, oracle) = (world.lock.clone(), oracle.clone());
            thread::spawn(move || {
                let lease = block_on(lock.acquire()).unwrap();
                oracle.visit(lease.fencing_token());
                if i == 0 {
                    drop(lease);
                } else {
                    block_on(lease.release()).unwrap();
                }
            })
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    assert_eq!(oracle.served.load(Ordering::SeqCst), 3);
    world.end();
}

#[test]
fn one_holds_it_at_a_time_tokens_rise_and_nobody_is_forgotten() {
    for handovers in [0, 1, 8] {
        explore(move || one_at_a_time(handovers));
    }
}

/// Three in line, of whom the second goes away after `polls` looks.
fn one_goes_away(handovers: u32, polls: usize) {
    let world = World::new(options(handovers));
    let oracle = Arc::new(Oracle::default());
    let stays = |lock: ManagedLock<Server>, oracle: Arc<Oracle>| {
        thread::spawn(move || {
            let lease = block_on(lock.acquire()).unwrap();
            oracle.visit(lease.fencing_token());
            drop(lease);
        })
    };
    let first = stays(world.lock.clone(), oracle.clone());
    let goes = {
        let lock = world.lock.clone();
        thread::spawn(move || {
            let mut acquire = pin!(lock.acquire());
            for _ in 0..polls {
                if (&mut acquire).now_or_never().is_some() {
                    return;
                }
                thread::yield_now();
            }
        })
    };
    let last = stays(world.lock.clone(), oracle.clone());
    for caller in [first, goes, last] {
        caller.join().unwrap();
    }
    assert_eq!(oracle.served.load(Ordering::SeqCst), 2);
    world.end();
}

#[test]
fn one_who_goes_away_leaves_no_gap_and_gives_back_what_it_was_handed() {
    for handovers in [0, 8] {
        for polls in 0..3 {
            explore(move || one_goes_away(handovers, polls));
        }
    }
}

#[test]
fn a_shutdown_refuses_or_serves_each_and_leaves_nothing() {
    explore(|| {
        let world = World::new(options(8));
        let oracle = Arc::new(Oracle::default());
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (lock, oracle) = (world.lock.clone(), oracle.clone());
                thread::spawn(move || match block_on(lock.acquire()) {
                    Ok(lease) => oracle.visit(lease.fencing_token()),
                    Err(error) => assert!(matches!(error, AcquireError::ShutDown { .. }), "{error}"),
                })
            })
            .collect();
        world.lock.manager().table().close();
        assert!(block_on(world.lock.acquire()).is_err());
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        world.end();
    });
}

#[test]
fn whoever_waits_behind_a_failure_is_told_of_it_or_asks_itself() {
    explore(|| {
        let world = World::new(options(8));
        world.lock.manager().backend().down.store(true, Ordering::SeqCst);
        let callers: Vec<_> = (0..3)
            .map(|i| {
                let lock = world.lock.clone();
                thread::spawn(move || {
                    let mut acquire = pin!(lock.acquire());
                    if i == 0 {
                        let _ = (&mut acquire).now_or_never();
                    } else {
                        assert!(block_on(acquire).is_err());
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        world.end();
    });
}

// ── The table by itself ─────────────────────────────────────────────────────────────────────────────────────────────

type Line = Arc<Table<Arc<str>>>;

const TTL: u64 = 30_000_000_000;

fn name() -> Arc<str> {
    "x".into()
}

/// At the front of an empty queue, and granted `tokens` of them at the moment 0.
fn granted(table: &Line, tokens: u64) -> Arc<Hold> {
    let options = Arc::new(options(8));
    assert!(matches!(table.enter(&name(), &options, true), Entered::Front));
    let (resource, owner) = (name(), Owner::random());
    let tokens = 1..1 + tokens;
    table.granted(Granted { resource, owner, options, tokens, sent: 0, now: 0, deadline: TTL, at_front: true })
}

/// Three in line. The second leaves by `leave`, while the front is passed on; the third must get its turn.
fn leaves(leave: fn(&Line, u64, tokio::sync::oneshot::Receiver<Turn>)) {
    let table: Line = Arc::new(Table::new());
    let options = Arc::new(options(8));
    let behind = || match table.enter(&name(), &options, true) {
        Entered::Behind { ticket, turn } => (ticket, turn),
        _ => panic!("the queue is not empty"),
    };
    assert!(matches!(table.enter(&name(), &options, true), Entered::Front));
    let (second, turn) = behind();
    let (_, last) = behind();
    let passes = table.clone();
    let passes = thread::spawn(move || passes.pass_front("x", Duration::ZERO));
    let goes = table.clone();
    let goes = thread::spawn(move || leave(&goes, second, turn));
    assert!(matches!(block_on(last), Ok(Turn::Ask { .. })));
    table.pass_front("x", Duration::ZERO);
    passes.join().unwrap();
    goes.join().unwrap();
    assert!(table.is_idle());
}

#[test]
fn a_turn_that_comes_as_its_waiter_leaves_is_passed_on() {
    explore(|| {
        leaves(|table, ticket, mut turn| {
            if !table.leave("x", ticket) && matches!(turn.try_recv(), Ok(Turn::Ask { .. })) {
                table.pass_front("x", Duration::ZERO);
            }
        });
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn control_a_turn_that_is_dropped_with_its_waiter_is_found() {
    find(|| {
        leaves(|table, ticket, turn| {
            table.leave("x", ticket);
            drop(turn);
        });
    });
}

/// A renewal is under way while the hold is given up: to the next in line, or for good.
fn renewed_while_given_up(next: bool) {
    let table: Line = Arc::new(Table::new());
    let hold = granted(&table, 2);
    let turn = next.then(|| table.enter(&name(), &Arc::new(options(8)), true));
    let due_at = TTL / 3;
    let gone = Arc::new(AtomicBool::new(false));

    let (keeper, flag) = (table.clone(), gone.clone());
    let keeper = thread::spawn(move || {
        for now in [due_at, due_at + 1] {
            let given_up = flag.load(Ordering::SeqCst);
            let Due { renewals, .. } = keeper.due(now);
            assert!(renewals.is_empty() || !given_up || next, "renewed after it was given up");
            for (id, _) in renewals {
                thread::yield_now();
                keeper.renewed(id, now, now + TTL, now, &Ok(RenewReply::Renewed));
            }
        }
    });
    let given_up = table.give_up(&hold, due_at);
    let deadline = hold.deadline();
    gone.store(true, Ordering::SeqCst);
    keeper.join().unwrap();

    assert_eq!(hold.latch.reason(), Some(LostReason::Released));
    assert_eq!(hold.deadline(), deadline, "nothing moves the deadline of what was given up");
    match (given_up, turn) {
        (Some(GivenUp::HandedOver), Some(Entered::Behind { turn, .. })) => {
            let Ok(Turn::Handed(handed)) = block_on(turn) else { panic!("it was handed over") };
            assert!(handed.latch.reason().is_none() && handed.token > hold.token);
            assert!(handed.deadline() >= deadline);
            assert!(matches!(table.give_up(&handed, due_at), Some(GivenUp::Remote { at_front: true, .. })));
        }
        (Some(GivenUp::Remote { at_front: true, lost: None, .. }), None) => {}
        _ => panic!("neither handed over nor to be released"),
    }
    assert!(table.give_up(&hold, due_at).is_none(), "given up once");
    table.pass_front("x", Duration::ZERO);
    assert!(table.is_idle());
}

#[test]
fn a_renewal_under_way_never_touches_what_is_given_up() {
    explore(|| renewed_while_given_up(false));
    explore(|| renewed_while_given_up(true));
}

/// The deadline passes while a renewal comes in late, the holder looks and gives up, and another waits.
#[test]
fn a_deadline_that_passed_is_a_loss_for_good_and_lets_the_next_one_ask() {
    explore(|| {
        let table: Line = Arc::new(Table::new());
        let hold = granted(&table, 2);
        let Entered::Behind { turn, .. } = table.enter(&name(), &Arc::new(options(8)), true) else { panic!("behind") };
        let ids: Vec<u64> = table.due(TTL / 3).renewals.into_iter().map(|(id, _)| id).collect();

        let keeper = table.clone();
        let keeper = thread::spawn(move || drop(keeper.due(TTL)));
        let late = table.clone();
        let late = thread::spawn(move || {
            for id in ids {
                late.renewed(id, TTL / 3, TTL / 3 + TTL, TTL, &Ok(RenewReply::Renewed));
            }
        });
        let given_up = table.give_up(&hold, TTL);
        let reason = hold.latch.reason();
        assert!(reason.is_some());
        let Some(GivenUp::Remote { resource, at_front, lost, .. }) = given_up else { panic!("not handed over") };
        assert_eq!(lost, Some(LostReason::Expired));
        table.released(&resource, at_front, Duration::ZERO);
        assert!(matches!(block_on(turn), Ok(Turn::Ask { .. })), "told once, by the loss or by the release");
        keeper.join().unwrap();
        late.join().unwrap();
        assert_eq!(hold.latch.reason(), reason);
        assert_eq!(hold.deadline(), TTL);
        table.pass_front("x", Duration::ZERO);
        assert!(table.is_idle());
    });
}

// ── The latch ───────────────────────────────────────────────────────────────────────────────────────────────────────

fn tripped_by_two(trip: fn(&Latch, LostReason) -> bool) {
    let latch = Arc::new(Latch::new());
    let other = latch.clone();
    let expires = thread::spawn(move || trip(&other, LostReason::Expired));
    let revoked = trip(&latch, LostReason::Revoked);
    let seen = latch.reason();
    let expired = expires.join().unwrap();
    assert!(expired != revoked, "tripped once");
    assert_eq!(latch.reason(), seen, "the first reason stays");
    assert!(latch.signal().is_cancelled());
}

#[test]
fn a_latch_trips_once_for_one_reason() {
    explore(|| tripped_by_two(Latch::trip));
}

#[test]
#[should_panic(expected = "tripped once")]
fn control_a_latch_that_looks_before_it_trips_is_found() {
    find(|| {
        tripped_by_two(|latch, reason| {
            let first = latch.reason().is_none();
            thread::yield_now();
            latch.trip(reason);
            first
        });
    });
}

// ── The keeper ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// How a keeper is started and ends: as `keeper::start` does, or with a mistake.
#[derive(Clone, Copy, PartialEq)]
enum Keeping {
    Right,
    /// One who has no runtime claims the keeper first, and then finds that it cannot start it.
    ClaimsFirst,
    /// A keeper that ended by itself says so once more.
    EndsTwice,
}

#[derive(Default)]
struct Watch {
    alive: AtomicUsize,
    done: AtomicUsize,
    keepers: std::sync::Mutex<Vec<thread::JoinHandle<()>>>,
}

fn add_chore(table: &Line, watch: &Arc<Watch>, runtime: bool, keeping: Keeping) {
    let counts = watch.clone();
    table.add_chore(Box::pin(async move {
        counts.done.fetch_add(usize::from(runtime), Ordering::SeqCst);
    }));
    if runtime && table.needs_keeper() {
        let (table, counts) = (table.clone(), watch.clone());
        let keeper = thread::spawn(move || keep(&table, &counts, keeping));
        watch.keepers.lock().unwrap().push(keeper);
    } else if keeping == Keeping::ClaimsFirst && !runtime && table.needs_keeper() {
        table.no_keeper();
    }
}

fn keep(table: &Line, watch: &Watch, keeping: Keeping) {
    loop {
        assert_eq!(watch.alive.fetch_add(1, Ordering::SeqCst), 0, "two keepers");
        table.due(1).chores.into_iter().for_each(block_on);
        thread::yield_now();
        watch.alive.fetch_sub(1, Ordering::SeqCst);
        if table.keeper_may_end() {
            break;
        }
        block_on(table.wake.notified());
    }
    if keeping == Keeping::EndsTwice {
        table.no_keeper();
    }
}

fn chores_are_done(callers: &[bool], keeping: Keeping) {
    let table: Line = Arc::new(Table::new());
    let watch = Arc::new(Watch::default());
    let started: Vec<_> = callers
        .iter()
        .map(|&runtime| {
            let (table, watch) = (table.clone(), watch.clone());
            thread::spawn(move || add_chore(&table, &watch, runtime, keeping))
        })
        .collect();
    started.into_iter().for_each(|caller| caller.join().unwrap());
    let keepers = std::mem::take(&mut *watch.keepers.lock().unwrap());
    keepers.into_iter().for_each(|keeper| keeper.join().unwrap());
    let wanted = callers.iter().filter(|&&runtime| runtime).count();
    assert_eq!(watch.done.load(Ordering::SeqCst), wanted, "a chore was left without a keeper");
}

#[test]
fn there_is_one_keeper_as_long_as_there_is_something_to_do() {
    explore(|| chores_are_done(&[true, false], Keeping::Right));
    explore(|| chores_are_done(&[true, true, true], Keeping::Right));
    // As many as its control is given: a few hundred schedules do not find that one.
    find(|| chores_are_done(&[true, true, true], Keeping::Right));
}

#[test]
#[should_panic(expected = "a chore was left without a keeper")]
fn control_a_keeper_claimed_by_one_who_cannot_start_it_is_found() {
    find(|| chores_are_done(&[true, false], Keeping::ClaimsFirst));
}

#[test]
#[should_panic(expected = "two keepers")]
fn control_a_keeper_that_ends_twice_is_found() {
    find(|| chores_are_done(&[true, true, true], Keeping::EndsTwice));
}
