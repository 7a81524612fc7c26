//! The protocol of leases and fencing tokens as a model, of which every reachable state is checked (stateright).
//!
//! **Modelled.** A server with one lock key (owner, time left, first token), a fence counter, and a register that
//! refuses tokens older than the newest it has seen. Two or three processes, which
//! - ask for a grant, ask again as the same owner when no answer came, and give up (which releases);
//! - hold the lease until `sent + ttl − drift` by their own clock, renew it, and release it;
//! - check the deadline, and write to the register later: any pause fits between the check and the write's arrival;
//! - hand the lease over in memory to their second task, with the next token of the range that the grant reserved.
//!
//! The network delays any message for any time, so that messages overtake one another, and loses requests (by never
//! delivering them) and replies. An acquire may have an old attempt under way beside its newest one. A process that
//! crashed or was stopped is one that takes no step any more.
//!
//! **Abstracted.** Time goes in ticks. A lease lasts `LEASE` of them by its holder's clock; the server's key may end at
//! any moment from that many ticks after the request's *arrival* on. That one inequality is all that ttl and drift are
//! for, so neither is a number here, and the clocks may tick together. A refusal and a lost reply look the same to a
//! process, as both make it ask again. A process has one renewal, one release and one old attempt under way at a time,
//! and a task one write. A release is retried until it is answered: it may come late, and twice, and is not lost.
//! States that differ only in which process is which are one. Acquires and grants are bounded, as each check says;
//! retries, renewals, ticks and writes are not.
//!
//! **Not modelled.** The register's own failures; a fence counter that is lost; several servers; read locks and locks
//! on several keys; order among waiters, and that anybody gets the lock at last (only what must *never* happen is
//! checked); "not yours" as the answer to a renewal, which before the deadline comes only where a key was lost.
//!
//! What fencing promises is the order of writes, not exclusion: a stale write that arrives before the newer holder's
//! first one is accepted. Who reads before writing has to show the register the token with the read.
//!
//! Each guard of the protocol has a control: a model without it, in which the checker has to find what goes wrong.
//!
//! Sources: Gray and Cheriton, *Leases* (1989); Kleppmann, *How to do distributed locking* (2016); *Distributed Locks
//! with Redis* (Redis's documentation: release by compare, drift); Dice, Marathe and Shavit, *Lock Cohorting* (2012).

#[path = "protocol_model/properties.rs"]
mod properties;
#[path = "protocol_model/protocol.rs"]
mod protocol;
#[path = "protocol_model/state.rs"]
mod state;

use std::collections::BTreeSet;

use properties::{
    NOTHING_LEFT_BEHIND, ONE_GRANT, ONE_VALID_LEASE, RELEASED_STAYS_RELEASED, TOKENS_RISE, VALID_IS_OWNED,
    WRITES_APART, WRITES_ONLY_FORWARD,
};
use protocol::{Guard, Protocol};
use stateright::{Checker, HasDiscoveries, Model};

/// All that the protocol does, at the least size at which two compete.
const TWO: Protocol = Protocol { processes: 2, acquires: 2, grants: 2, hand_over: true, renewals: true, without: None };

/// More rounds, of grants and releases alone.
const PLAIN: Protocol = Protocol { acquires: 3, grants: 3, hand_over: false, renewals: false, ..TWO };

/// Visits every state: each `always` holds, each `sometimes` is reached, and there are at least so many states.
fn holds(protocol: Protocol, at_least: usize) {
    let checker = protocol.checker().spawn_bfs().join();
    eprintln!("{} states, {} steps deep: {:?}", checker.unique_state_count(), checker.max_depth(), checker.model());
    checker.assert_properties();
    assert!(checker.unique_state_count() >= at_least, "only {} states", checker.unique_state_count());
}

/// Without that guard, each of those properties is seen to break. In the steps that are printed, a process's number
/// may change from one step to the next: see [`state::State::canonical`].
fn breaks(protocol: Protocol, guard: Guard, properties: &[&'static str]) {
    let all = HasDiscoveries::AllOf(BTreeSet::from_iter(properties.iter().copied()));
    let checker = Protocol { without: Some(guard), ..protocol }.checker().finish_when(all).spawn_bfs().join();
    for property in properties {
        let actions = checker.assert_any_discovery(property).into_actions();
        eprintln!("without {guard:?}, not so: {property}: {actions:?}");
    }
}

#[test]
fn two_processes_with_hand_overs_and_renewals() {
    holds(TWO, 150_000);
}

#[test]
fn two_processes_with_hand_overs_and_a_grant_more() {
    holds(Protocol { grants: 3, renewals: false, ..TWO }, 120_000);
}

#[test]
fn two_processes_with_renewals_and_an_acquire_more() {
    holds(Protocol { acquires: 3, hand_over: false, ..TWO }, 100_000);
}

#[test]
fn three_processes() {
    holds(Protocol { processes: 3, ..PLAIN }, 400_000);
}

#[test]
fn control_a_register_without_a_fence_lets_a_stale_write_in() {
    breaks(PLAIN, Guard::FenceCheck, &[WRITES_ONLY_FORWARD, WRITES_APART]);
}

#[test]
fn control_tokens_handed_over_but_not_reserved_are_granted_to_another() {
    breaks(TWO, Guard::ReservedRange, &[TOKENS_RISE, WRITES_ONLY_FORWARD, WRITES_APART]);
}

#[test]
fn control_a_hand_over_with_the_same_token_lets_a_stale_write_in() {
    breaks(TWO, Guard::TokenPerHandOver, &[TOKENS_RISE, WRITES_ONLY_FORWARD, WRITES_APART]);
}

#[test]
fn control_an_owner_who_is_not_recognised_is_granted_twice() {
    breaks(PLAIN, Guard::RegrantKeepsToken, &[ONE_GRANT]);
}

#[test]
fn control_a_retry_as_another_owner_leaves_its_first_grant_behind() {
    breaks(PLAIN, Guard::OwnerKeptInRetries, &[NOTHING_LEFT_BEHIND]);
}

#[test]
fn control_a_release_that_does_not_compare_ends_anothers_lease() {
    breaks(PLAIN, Guard::CompareAndDelete, &[VALID_IS_OWNED, ONE_VALID_LEASE]);
}

#[test]
fn control_a_renewal_that_does_not_compare_revives_what_was_released() {
    breaks(TWO, Guard::RenewalCompares, &[RELEASED_STAYS_RELEASED, NOTHING_LEFT_BEHIND, VALID_IS_OWNED]);
}

#[test]
fn control_a_deadline_from_the_replys_arrival_is_too_late() {
    breaks(PLAIN, Guard::CountedFromSending, &[VALID_IS_OWNED, ONE_VALID_LEASE]);
}

#[test]
fn control_a_deadline_without_drift_is_too_late() {
    breaks(PLAIN, Guard::Drift, &[VALID_IS_OWNED, ONE_VALID_LEASE]);
}

#[test]
fn control_an_acquire_given_up_and_not_undone_leaves_the_key_behind() {
    breaks(PLAIN, Guard::UndoOnCancel, &[NOTHING_LEFT_BEHIND]);
}

/// The reason for tokens: a server that forgets the key breaks what the lease says, and not the order of writes.
#[test]
fn fenced_writes_stay_in_order_where_the_server_forgets_a_key() {
    let checker =
        Protocol { without: Some(Guard::KeyLastsItsTtl), renewals: false, ..TWO }.checker().spawn_bfs().join();
    assert!(checker.unique_state_count() > 100_000);
    for broken in [ONE_VALID_LEASE, VALID_IS_OWNED] {
        checker.assert_any_discovery(broken);
    }
    for kept in [WRITES_ONLY_FORWARD, WRITES_APART] {
        checker.assert_no_discovery(kept);
    }
}
