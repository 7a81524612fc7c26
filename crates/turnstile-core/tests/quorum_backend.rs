//! Who is asked what, when, and what is made of the answers, on nodes in memory and a paused clock.
#![cfg(not(feature = "_shuttle"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use turnstile_core::quorum::{InvalidQuorum, Quorum, QuorumNode, QuorumOptions};
use turnstile_core::{
    BackendError, ErrorKind, FencingToken, GrantReply, GrantRequest, LeaseBackend, Owner, ReleaseOutcome, ReleaseReply,
    RenewReply, Renewal,
};

const MS: Duration = Duration::from_millis(1);
const TTL: Duration = Duration::from_secs(30);
const HUNG: Duration = Duration::from_secs(5);

/// A node whose key has no end. Clones are the same node.
#[derive(Clone)]
struct Node {
    address: Arc<str>,
    state: Arc<Mutex<State>>,
}

struct State {
    key: Option<(Owner, u64)>,
    counter: u64,
    /// How long a request takes to arrive; its answer is there at once.
    delay: Duration,
    down: bool,
    log: Vec<&'static str>,
}

impl Node {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }

    async fn serve<T>(&self, what: &'static str, act: impl FnOnce(&mut State) -> T) -> Result<T, BackendError> {
        sleep(self.with(|state| state.delay)).await;
        self.with(|state| {
            if state.down {
                return Err(BackendError::new(ErrorKind::Unreachable, "it is down"));
            }
            state.log.push(what);
            Ok(act(state))
        })
    }

    fn log(&self) -> Vec<&'static str> {
        self.with(|state| state.log.clone())
    }

    fn is_free(&self) -> bool {
        self.with(|state| state.key.is_none())
    }
}

#[async_trait]
impl LeaseBackend for Node {
    type Resource = Arc<str>;
    const STRATEGY: &'static str = "test";

    async fn grant(&self, request: GrantRequest<'_, Arc<str>>) -> Result<GrantReply, BackendError> {
        let (owner, tokens) = (request.owner, u64::from(request.tokens.get()));
        self.serve("grant", |state| match state.key {
            Some((other, _)) if other != owner => GrantReply::Refused { ends_within: Some(TTL), ahead: None },
            Some((_, first)) => GrantReply::Granted { first_token: FencingToken::new(first) },
            None => {
                let first = state.counter + 1;
                state.counter += tokens;
                state.key = Some((owner, first));
                GrantReply::Granted { first_token: FencingToken::new(first) }
            }
        })
        .await
    }

    async fn renew(&self, leases: &[Renewal<Arc<str>>]) -> Vec<Result<RenewReply, BackendError>> {
        let held = |state: &State, lease: &Renewal<_>| state.key.is_some_and(|(owner, _)| owner == lease.owner);
        let reply = |held| if held { RenewReply::Renewed } else { RenewReply::NotHeld };
        match self
            .serve("renew", |state| leases.iter().map(|lease| reply(held(state, lease))).collect::<Vec<_>>())
            .await
        {
            Ok(replies) => replies.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); leases.len()],
        }
    }

    async fn release(&self, _: &Arc<str>, owner: Owner) -> Result<ReleaseReply, BackendError> {
        self.serve("release", |state| {
            let outcome = match state.key {
                Some((holder, _)) if holder == owner => ReleaseOutcome::Released,
                Some(_) => ReleaseOutcome::TakenOver,
                None => ReleaseOutcome::AlreadyExpired,
            };
            state.key = state.key.filter(|&(holder, _)| holder != owner);
            ReleaseReply::new(outcome, None)
        })
        .await
    }
}

#[async_trait]
impl QuorumNode for Node {
    fn address(&self) -> &str {
        &self.address
    }

    async fn raise(&self, _: &Arc<str>, token: FencingToken) -> Result<(), BackendError> {
        self.serve("raise", |state| state.counter = state.counter.max(token.get())).await
    }
}

fn nodes<const N: usize>() -> [Node; N] {
    std::array::from_fn(|at| {
        let state = State { key: None, counter: 0, delay: MS, down: false, log: Vec::new() };
        Node { address: format!("node-{at}").into(), state: Arc::new(Mutex::new(state)) }
    })
}

fn majority<const N: usize>(nodes: &[Node; N]) -> Quorum<Node> {
    Quorum::new(nodes.clone(), QuorumOptions::majority_of(N)).unwrap()
}

fn name() -> Arc<str> {
    "x".into()
}

async fn ask(quorum: &Quorum<Node>, owner: Owner) -> Result<GrantReply, BackendError> {
    quorum.grant(GrantRequest::new(&name(), owner, TTL)).await
}

fn granted(token: u64) -> GrantReply {
    GrantReply::Granted { first_token: FencingToken::new(token) }
}

async fn renew(quorum: &Quorum<Node>, owner: Owner) -> Result<RenewReply, BackendError> {
    quorum.renew(&[Renewal::new(name(), owner, TTL)]).await.remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_grant_and_a_release_take_as_long_as_the_fastest_quorum() {
    let nodes = nodes::<5>();
    for (node, delay) in nodes.iter().zip([3, 1, 5_000, 2, 4_000]) {
        node.with(|state| state.delay = MS * delay);
    }
    let (quorum, owner, begun) = (majority(&nodes), Owner::random(), Instant::now());
    assert_eq!(ask(&quorum, owner).await.unwrap(), granted(1));
    assert_eq!(begun.elapsed(), 3 * MS);
    let reply = quorum.release(&name(), owner).await.unwrap();
    assert_eq!((reply.outcome, begun.elapsed()), (ReleaseOutcome::Released, 6 * MS));
    quorum.settle().await;
    assert_eq!(nodes[2].log(), ["grant", "release"], "the release came after the late grant");
    assert!(nodes.iter().all(Node::is_free));
}

#[tokio::test(start_paused = true)]
async fn a_hung_majority_fails_at_the_node_timeout_and_all_is_undone() {
    let (nodes, begun) = (nodes::<3>(), Instant::now());
    nodes[1].with(|state| state.delay = HUNG);
    nodes[2].with(|state| state.delay = HUNG);
    let quorum = majority(&nodes);
    let error = ask(&quorum, Owner::random()).await.unwrap_err();
    assert!(begun.elapsed() <= QuorumOptions::NODE_TIMEOUT + 3 * MS, "{:?}", begun.elapsed());
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(
        error.to_string(),
        "no quorum for a grant, 2 of 3 nodes are needed: node-0: granted; node-1: no answer within 250ms; \
         node-2: no answer within 250ms; bring nodes back"
    );
    assert!(nodes[0].is_free(), "undone when it returns");
    quorum.settle().await;
    assert_eq!(nodes[1].log(), ["grant", "release"]);
    assert!(nodes.iter().all(Node::is_free));
}

#[tokio::test(start_paused = true)]
async fn a_majority_that_is_down_fails_at_once() {
    let (nodes, begun) = (nodes::<3>(), Instant::now());
    nodes[0].with(|state| state.down = true);
    nodes[1].with(|state| state.down = true);
    nodes[2].with(|state| state.delay = HUNG);
    let error = ask(&majority(&nodes), Owner::random()).await.unwrap_err();
    assert_eq!((begun.elapsed(), error.kind()), (MS, ErrorKind::Unreachable));
    assert!(error.to_string().contains("node-1: it is down; node-2: no answer yet;"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_down_releases_when_it_is_back() {
    let nodes = nodes::<3>();
    let (quorum, owner) = (majority(&nodes), Owner::random());
    ask(&quorum, owner).await.unwrap();
    sleep(MS).await;
    nodes[2].with(|state| state.down = true);
    quorum.release(&name(), owner).await.unwrap();
    sleep(TTL / 2).await;
    assert!(!nodes[2].is_free());
    nodes[2].with(|state| state.down = false);
    quorum.settle().await;
    assert!(nodes[2].is_free());
}

#[tokio::test(start_paused = true)]
async fn what_others_hold_is_refused_and_half_a_grant_undone() {
    let (nodes, other) = (nodes::<5>(), Owner::random());
    for node in &nodes[..3] {
        node.with(|state| state.key = Some((other, 9)));
    }
    let quorum = majority(&nodes);
    let reply = ask(&quorum, Owner::random()).await.unwrap();
    assert_eq!(reply, GrantReply::Refused { ends_within: Some(TTL), ahead: None });
    quorum.settle().await;
    assert!(nodes[3].is_free() && nodes[4].is_free());
    assert!(!nodes[0].log().contains(&"release"), "there is nothing to undo");
}

#[tokio::test(start_paused = true)]
async fn whoever_has_half_does_not_keep_it_to_wait_for_a_node_that_hangs() {
    let nodes = nodes::<3>();
    nodes[0].with(|state| state.delay = HUNG);
    nodes[1].with(|state| state.key = Some((Owner::random(), 9)));
    let quorum = majority(&nodes);
    for expected in [QuorumOptions::NODE_TIMEOUT, MS, MS] {
        let begun = Instant::now();
        assert!(matches!(ask(&quorum, Owner::random()).await.unwrap(), GrantReply::Refused { .. }));
        // And a round trip to undo it.
        assert!(begun.elapsed().abs_diff(expected) <= 2 * MS, "{:?}", begun.elapsed());
        sleep(5 * MS).await;
        assert!(nodes[2].is_free());
    }
    // It is asked all the same, and counts again when it answers.
    nodes[0].with(|state| state.delay = MS);
    let owner = Owner::random();
    ask(&quorum, owner).await.unwrap();
    quorum.settle().await;
    assert!(matches!(ask(&quorum, owner).await.unwrap(), GrantReply::Granted { .. }));
}

#[tokio::test(start_paused = true)]
async fn counters_that_agree_cost_nothing_and_others_are_raised_where_it_was_granted() {
    let nodes = nodes::<3>();
    let (quorum, owner) = (majority(&nodes), Owner::random());
    ask(&quorum, owner).await.unwrap();
    quorum.release(&name(), owner).await.unwrap();
    quorum.settle().await;
    assert!(nodes.iter().all(|node| !node.log().contains(&"raise")));

    nodes[0].with(|state| state.counter = 41);
    nodes[2].with(|state| state.key = Some((Owner::random(), 1)));
    let begun = Instant::now();
    let (name, three) = (name(), NonZeroU32::new(3).unwrap());
    let mut request = GrantRequest::new(&name, owner, TTL);
    request.tokens = three;
    assert_eq!(quorum.grant(request).await.unwrap(), granted(42));
    assert_eq!(begun.elapsed(), 2 * MS, "one round trip more");
    assert_eq!(nodes[1].with(|state| state.counter), 44, "beyond the last of the range");
    assert!(!nodes[2].log().contains(&"raise"), "its holder may have a number of it");
}

#[tokio::test(start_paused = true)]
async fn a_late_node_helps_where_one_fails_before_the_token_is_written_back() {
    let nodes = nodes::<3>();
    let quorum = majority(&nodes);
    nodes[0].with(|state| state.counter = 41);
    nodes[2].with(|state| state.delay = 10 * MS);
    let failing = nodes[1].clone();
    tokio::spawn(async move {
        while failing.log() != ["grant"] {
            sleep(MS / 10).await;
        }
        failing.with(|state| state.down = true);
    });
    assert_eq!(ask(&quorum, Owner::random()).await.unwrap(), granted(42));
    assert_eq!(nodes[2].log(), ["grant", "raise"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_owner_is_granted_the_same_again_whichever_nodes_answer() {
    let nodes = nodes::<3>();
    let (quorum, owner) = (majority(&nodes), Owner::random());
    nodes[0].with(|state| state.counter = 41);
    assert_eq!(ask(&quorum, owner).await.unwrap(), granted(42));
    quorum.settle().await;
    nodes[0].with(|state| state.delay = HUNG);
    assert_eq!(ask(&quorum, owner).await.unwrap(), granted(42));
    assert!(matches!(ask(&quorum, Owner::random()).await.unwrap(), GrantReply::Refused { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_takes_a_quorum_and_brings_nothing_back() {
    let nodes = nodes::<3>();
    let (quorum, owner) = (majority(&nodes), Owner::random());
    ask(&quorum, owner).await.unwrap();
    quorum.settle().await;
    nodes[0].with(|state| state.key = None);
    assert_eq!(renew(&quorum, owner).await.unwrap(), RenewReply::Renewed);
    assert!(nodes[0].is_free());

    nodes[1].with(|state| state.down = true);
    let error = renew(&quorum, owner).await.unwrap_err();
    assert!(error.kind().is_transient(), "it may still be held");
    assert!(error.to_string().contains("node-0: not held; node-1: it is down; node-2: renewed;"), "{error}");

    nodes[1].with(|state| (state.down, state.key) = (false, None));
    assert_eq!(renew(&quorum, owner).await.unwrap(), RenewReply::NotHeld);
    assert_eq!(renew(&quorum, Owner::random()).await.unwrap(), RenewReply::NotHeld);
    assert_eq!(quorum.release(&name(), owner).await.unwrap().outcome, ReleaseOutcome::AlreadyExpired);
}

#[tokio::test(start_paused = true)]
async fn a_hung_node_holds_no_renewal_up() {
    let nodes = nodes::<3>();
    let (quorum, owner) = (majority(&nodes), Owner::random());
    ask(&quorum, owner).await.unwrap();
    nodes[0].with(|state| state.delay = HUNG);
    let begun = Instant::now();
    assert_eq!(renew(&quorum, owner).await.unwrap(), RenewReply::Renewed);
    assert_eq!(begun.elapsed(), MS);
}

#[test]
fn nodes_that_make_no_quorum_are_refused() {
    let new =
        |needed, count: usize| Quorum::new(nodes::<5>().into_iter().take(count), QuorumOptions::needed(needed)).err();
    assert_eq!(new(1, 0), Some(InvalidQuorum::Nodes(0)));
    assert_eq!(new(2, 4), Some(InvalidQuorum::Needed { needed: 2, nodes: 4 }));
    assert_eq!(new(6, 5), Some(InvalidQuorum::Needed { needed: 6, nodes: 5 }));
    assert_eq!(new(3, 5), None);
    let with = |options| Quorum::new(nodes::<3>(), options).err();
    assert_eq!(with(QuorumOptions::needed(2).node_timeout(Duration::ZERO)), Some(InvalidQuorum::NodeTimeout));
    assert_eq!(with(QuorumOptions::needed(2).drift(-1.0, MS)), Some(InvalidQuorum::Drift(-1.0)));
}
