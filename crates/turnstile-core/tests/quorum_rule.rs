//! The rule of the quorum as a model, of which every reachable state is checked (stateright).
//!
//! **Modelled.** Three or five nodes, each with a key, a fencing counter, and memory or none; two processes that ask all
//! nodes, hold when enough said yes, renew, release, give up at any moment, and begin again. The network delays any
//! message for any time and loses any (by never delivering it, or its answer), so that grants arrive after they were given
//! up, and what undoes them after the next attempt has begun. Nodes are restarted at any moment. A process that crashed
//! or is paused is one that takes no step any more; a node that is down or cut off, one that nothing arrives at.
//!
//! **Abstracted.** Time goes in ticks. A lease lasts so many of them by its holder's clock, counted from the first
//! request; a node's key surely stays as many, from the request's arrival on, and may end at any time after. That
//! inequality is what ttl, drift and clocks of different speed come down to; clocks beyond the bound are a key that may end
//! a tick sooner. Which node and which process is which does not matter:
//! states that differ in it are one. Attempts and restarts are bounded, as each
//! check says.
//!
//! **Not modelled.** That anybody gets the lock at last; the same identity asking twice; ranges of tokens; what a node
//! says before it knows whether it was restarted.
//!
//! Each guard of the rule has a control: a model without it, in which the checker has to find what goes wrong.
//!
//! Source: *Distributed Locks with Redis* (Redis's documentation), and what is added to it here: tokens, an identity for
//! each attempt.

#[path = "quorum_rule/model.rs"]
mod model;

use model::{Guard, Phase, Request, Rule, State};
use stateright::{Checker, Model, Property};

const ONE_HOLDER: &str = "at most one lease is valid by its holder's clock";
const TOKENS_RISE: &str = "each token is above all tokens before";

fn properties(rule: &Rule) -> Vec<Property<Rule>> {
    let mut all = vec![
        Property::always(ONE_HOLDER, |_, s: &State| holders(s) <= 1),
        Property::always(TOKENS_RISE, |_, s: &State| !s.token_fell),
        Property::sometimes("it is held, and something older is still on a node", |_, s: &State| {
            holders(s) == 1 && s.nodes.iter().any(|node| node.key.is_some_and(|key| !key.current))
        }),
        Property::sometimes("both have some nodes, and neither enough", |_, s: &State| {
            let has = |process| s.nodes.iter().any(|node| node.key.is_some_and(|k| k.process == process && k.current));
            has(0) && has(1) && holders(s) == 0
        }),
        Property::sometimes("it is held, and a request is still under way", |_, s: &State| {
            let late = |p: usize| s.nodes.iter().any(|node| node.lines[p].grant == Request::UnderWay);
            (0..2).any(|p| matches!(s.processes[p].phase, Phase::Holding { .. }) && late(p))
        }),
    ];
    if rule.attempts > 1 {
        all.push(Property::sometimes("what was given up is under way beside the next attempt", |_, s: &State| {
            s.nodes.iter().any(|node| node.lines.iter().any(|line| line.late_grant && line.grant != Request::None))
        }));
    }
    if rule.tokens {
        all.push(Property::sometimes("a token is written back", |_, s: &State| s.raised));
    }
    if rule.renewals {
        all.push(Property::sometimes("a lease is renewed", |_, s: &State| s.renewed));
    }
    if rule.restarts > 0 && rule.without != Some(Guard::DelayedRestart) {
        all.push(Property::sometimes("it is held while a node is kept out", |_, s: &State| {
            holders(s) == 1 && s.nodes.iter().any(|node| node.kept_out > 0)
        }));
    }
    all
}

fn holders(s: &State) -> usize {
    s.processes.iter().filter(|p| matches!(p.phase, Phase::Holding { left: 1.., .. })).count()
}

/// Three nodes, and all but renewals.
const THREE: Rule = Rule {
    nodes: 3,
    lease: 1,
    attempts: 2,
    restarts: 0,
    forgetful: false,
    tokens: true,
    renewals: false,
    without: None,
};

/// The bare rule over five nodes.
const FIVE: Rule = Rule { nodes: 5, lease: 2, attempts: 1, tokens: false, ..THREE };

/// Visits every state: each `always` holds, each `sometimes` is reached, and there are at least so many states.
fn holds(rule: Rule, at_least: usize) {
    let checker = rule.checker().spawn_bfs().join();
    eprintln!("{} states, {} steps deep: {:?}", checker.unique_state_count(), checker.max_depth(), checker.model());
    checker.assert_properties();
    assert!(checker.unique_state_count() >= at_least, "only {} states", checker.unique_state_count());
}

/// That property is seen to break, without that guard.
fn breaks(rule: Rule, guard: Option<Guard>, property: &'static str) {
    let any = stateright::HasDiscoveries::AllOf([property].into());
    let checker = Rule { without: guard, ..rule }.checker().finish_when(any).spawn_bfs().join();
    let actions = checker.assert_any_discovery(property).into_actions();
    eprintln!("without {guard:?}, not so: {property}: {actions:?}");
}

#[test]
fn three_nodes() {
    holds(THREE, 500_000);
}

#[test]
fn three_nodes_with_renewals() {
    holds(Rule { lease: 2, tokens: false, renewals: true, ..THREE }, 600_000);
}

#[test]
fn three_nodes_that_restart_and_forget_and_are_kept_out() {
    holds(Rule { lease: 2, restarts: 1, forgetful: true, tokens: false, ..THREE }, 400_000);
    holds(Rule { restarts: 3, forgetful: true, tokens: false, ..THREE }, 200_000);
}

#[test]
fn three_nodes_that_restart_and_remember() {
    holds(Rule { attempts: 1, restarts: 2, ..THREE }, 10_000);
}

#[test]
fn five_nodes() {
    holds(FIVE, 4_000);
}

#[test]
fn five_nodes_that_restart_and_forget_and_are_kept_out() {
    holds(Rule { restarts: 2, forgetful: true, ..FIVE }, 100_000);
}

#[test]
fn control_half_of_the_nodes_let_two_hold() {
    breaks(Rule { tokens: false, ..THREE }, Some(Guard::MoreThanHalf), ONE_HOLDER);
    breaks(FIVE, Some(Guard::MoreThanHalf), ONE_HOLDER);
}

#[test]
fn control_clocks_beyond_the_bound_let_two_hold() {
    breaks(THREE, Some(Guard::DriftWithinBound), ONE_HOLDER);
    breaks(FIVE, Some(Guard::DriftWithinBound), ONE_HOLDER);
}

#[test]
fn control_a_lease_counted_from_its_answers_lets_two_hold() {
    breaks(FIVE, Some(Guard::CountedFromSending), ONE_HOLDER);
}

#[test]
fn control_one_node_that_forgets_and_votes_at_once_lets_two_hold() {
    breaks(Rule { restarts: 1, forgetful: true, ..THREE }, Some(Guard::DelayedRestart), ONE_HOLDER);
    breaks(Rule { restarts: 1, forgetful: true, ..FIVE }, Some(Guard::DelayedRestart), ONE_HOLDER);
}

#[test]
fn control_a_node_that_forgets_its_counter_lets_tokens_fall() {
    breaks(Rule { restarts: 1, forgetful: true, ..THREE }, None, TOKENS_RISE);
}

#[test]
fn control_one_identity_for_all_attempts_lets_two_hold() {
    breaks(THREE, Some(Guard::IdentityPerAttempt), ONE_HOLDER);
}

#[test]
fn control_tokens_that_are_not_written_back_fall() {
    breaks(THREE, Some(Guard::WriteBack), TOKENS_RISE);
}

#[test]
fn control_a_token_that_is_written_back_to_nodes_of_others_comes_twice() {
    breaks(THREE, Some(Guard::WriteBackWhereGranted), TOKENS_RISE);
}

#[test]
fn control_a_renewal_by_one_node_lets_two_hold() {
    breaks(
        Rule { lease: 2, attempts: 1, tokens: false, renewals: true, ..THREE },
        Some(Guard::RenewalByQuorum),
        ONE_HOLDER,
    );
}
