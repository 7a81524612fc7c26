//! What is always so, and what is sometimes so.

use stateright::Property;

use crate::protocol::Protocol;
use crate::state::{Attempt, Late, Owner, Phase, Process, Renewal, State};

pub const WRITES_ONLY_FORWARD: &str = "an accepted write is never of an older hold than one accepted before";
pub const WRITES_APART: &str = "no older hold's write is accepted between two writes of a newer one";
pub const TOKENS_RISE: &str = "each hold's token is above all tokens held before";
pub const ONE_VALID_LEASE: &str = "at most one lease is valid by its holder's clock";
pub const VALID_IS_OWNED: &str = "a lease that is valid by its holder's clock is the owner's on the server";
pub const RELEASED_STAYS_RELEASED: &str = "a renewal never brings back what was released";
pub const NOTHING_LEFT_BEHIND: &str = "whoever owns the key is asking, holding or releasing it";
pub const ONE_GRANT: &str = "asking again for a live grant brings no second one";

/// The properties of a model: with what is reached only by renewals or hand-overs where it has those.
pub fn of(protocol: &Protocol) -> Vec<Property<Protocol>> {
    let mut all = vec![
        Property::always(WRITES_ONLY_FORWARD, |_, s: &State| !s.faults.write_went_back),
        Property::always(WRITES_APART, |_, s: &State| !s.faults.writes_interleaved),
        Property::always(TOKENS_RISE, |_, s: &State| !s.faults.token_not_above),
        Property::always(ONE_VALID_LEASE, |_, s: &State| s.processes.iter().filter(|p| is_valid(p)).count() <= 1),
        Property::always(VALID_IS_OWNED, |_, s: &State| owners(s).all(|(o, p)| !is_valid(p) || owns_key(s, o))),
        Property::always(RELEASED_STAYS_RELEASED, |_, s: &State| !s.faults.revived),
        Property::always(NOTHING_LEFT_BEHIND, |_, s: &State| is_looked_after(s)),
        Property::always(ONE_GRANT, |_, s: &State| !s.faults.granted_twice),
        Property::sometimes("a stale write comes to be refused", |_, s: &State| {
            s.processes.iter().flat_map(|p| p.writes).flatten().any(|w| w.token < s.register.newest_token)
        }),
        Property::sometimes(
            "a lease ends and another has it, while its holder is paused before a write",
            |_, s: &State| {
                owners(s).any(|(o, p)| {
                    let Phase::Holding { left: 0, hold, .. } = p.phase else { return false };
                    p.writes.iter().flatten().any(|w| w.hold == hold)
                        && s.key.is_some_and(|key| key.owner.process != o.process)
                })
            },
        ),
        Property::sometimes("the reply to a grant is lost", |_, s: &State| {
            owners(s).any(|(o, p)| p.phase == Phase::Asking(Attempt::Unanswered) && owns_key(s, o))
        }),
        Property::sometimes("a retry finds its own grant", |_, s: &State| {
            owners(s).any(|(o, p)| matches!(p.phase, Phase::Asking(Attempt::Sent { .. })) && owns_key(s, o))
        }),
        Property::sometimes("a request arrives after the release that undid it", |_, s: &State| {
            s.key.is_some_and(|key| key.overtaken)
        }),
        Property::sometimes("a later grant's holder writes", |_, s: &State| s.register.newest_hold.grant > 1),
    ];
    if protocol.hand_over {
        all.push(Property::sometimes(
            "a lease is handed over in memory, and its second holder writes",
            |_, s: &State| s.register.newest_hold.hand_over > 0,
        ));
    }
    if protocol.renewals {
        all.push(Property::sometimes("a renewal prolongs a lease", |_, s: &State| {
            s.processes.iter().any(|p| {
                let Some(Renewal::Renewed { age: 0, acquire }) = p.renewal else { return false };
                acquire == p.acquires && matches!(p.phase, Phase::Holding { left: 1, .. })
            })
        }));
        all.push(Property::sometimes("a renewal arrives after its release", |_, s: &State| {
            s.processes
                .iter()
                .any(|p| matches!(p.renewal, Some(Renewal::Sent { request: Late { released: true, .. }, .. })))
        }));
    }
    all
}

/// Each process as the owner that its present acquire is.
fn owners(s: &State) -> impl Iterator<Item = (Owner, &Process)> {
    (0..).zip(&s.processes).map(|(process, p)| (Owner { process, acquire: p.acquires }, p))
}

fn is_valid(p: &Process) -> bool {
    matches!(p.phase, Phase::Holding { left: 1.., .. })
}

fn owns_key(s: &State, owner: Owner) -> bool {
    s.key.is_some_and(|key| key.owner == owner)
}

/// The exception is a key whose request arrived after the release that undid it: it ends at its time to live.
fn is_looked_after(s: &State) -> bool {
    s.key.is_none_or(|key| {
        let p = &s.processes[usize::from(key.owner.process)];
        let in_use = p.phase != Phase::Idle && p.acquires == key.owner.acquire;
        in_use || p.release == Some(key.owner.acquire) || key.overtaken
    })
}
