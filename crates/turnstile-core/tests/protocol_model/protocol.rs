//! The steps: what processes and server do, and what the network does to their messages.

use stateright::{Model, Property};

use crate::properties;
use crate::state::{
    Attempt, Faults, Hold, Key, LEASE, Late, Owner, Phase, Process, RANGE, Register, Renewal, State, Write,
};

/// What keeps the protocol right. A model may lack one, to see that the properties find it missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// The register refuses a token older than the newest it has seen.
    FenceCheck,
    /// A grant raises the counter by a whole range, not by one.
    ReservedRange,
    /// A hand-over in memory takes the next token of the range, not the same again.
    TokenPerHandOver,
    /// The server recognises an owner who asks again, and answers with the same token.
    RegrantKeepsToken,
    /// A retry bears the same owner.
    OwnerKeptInRetries,
    /// A release deletes its own key alone.
    CompareAndDelete,
    /// A renewal prolongs its own key alone.
    RenewalCompares,
    /// The lease is counted from the sending of the request, not from the arrival of the answer.
    CountedFromSending,
    /// The lease is shorter than the time to live, by what the clocks may differ.
    Drift,
    /// An acquire that is given up is undone by a release.
    UndoOnCancel,
    /// The server keeps a key for its whole time to live: nobody deletes it, and no failover loses it.
    KeyLastsItsTtl,
}

/// One step. The number is the process's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Tick,
    Expire,
    Ask(u8),
    Retry(u8),
    GiveUp(u8),
    GrantArrives(u8),
    DelayedGrantArrives(u8),
    ReplyArrives(u8),
    ReplyLost(u8),
    Renew(u8),
    RenewalArrives(u8),
    RenewalReplyArrives(u8),
    RenewalLost(u8),
    HandOver(u8),
    Release(u8),
    /// With `again`, its reply is lost, and it is sent once more.
    ReleaseArrives {
        process: u8,
        again: bool,
    },
    /// Checks the deadline, and means to write.
    Check(u8),
    WriteArrives {
        process: u8,
        task: u8,
    },
}

/// The protocol, within bounds.
#[derive(Debug, Clone)]
pub struct Protocol {
    pub processes: u8,
    /// How many acquires they begin, all together.
    pub acquires: u8,
    /// How many new grants the server makes.
    pub grants: u8,
    /// Whether a process has a second task, to which the lease is handed over.
    pub hand_over: bool,
    pub renewals: bool,
    pub without: Option<Guard>,
}

impl Protocol {
    fn has(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }

    /// How long a lease is by its holder's clock, when the answer to a request of that age arrives.
    fn lease(&self, age: u8) -> u8 {
        let lease = if self.has(Guard::Drift) { LEASE } else { LEASE + 1 };
        if self.has(Guard::CountedFromSending) { lease - age } else { lease }
    }

    /// The token with which the task that holds the lease writes.
    fn token(&self, first_token: u8, hold: Hold) -> u8 {
        first_token + if self.has(Guard::TokenPerHandOver) { hold.hand_over } else { 0 }
    }

    /// The server's script for a grant: the first token and the number of the grant, or nothing where it is refused.
    fn grant(&self, s: &mut State, owner: Owner, overtaken: bool) -> Option<(u8, u8)> {
        let key = match s.key {
            None => {
                s.grants += 1;
                let first_token = s.fence + 1;
                s.fence += if self.has(Guard::ReservedRange) { RANGE } else { 1 };
                Key { owner, left: LEASE, first_token, grant: s.grants, overtaken }
            }
            Some(key) if key.owner == owner => {
                let mut again = Key { left: LEASE, ..key };
                if !self.has(Guard::RegrantKeepsToken) {
                    again.first_token = s.fence + 1;
                    s.fence += RANGE;
                }
                s.faults.granted_twice |= again.first_token != key.first_token;
                again
            }
            Some(_) => return None,
        };
        s.key = Some(key);
        Some((key.first_token, key.grant))
    }

    /// The server's script for a renewal: whether it was the owner's.
    fn renew(&self, s: &mut State, owner: Owner, released: bool) -> bool {
        match &mut s.key {
            Some(key) if key.owner == owner => key.left = LEASE,
            _ if self.has(Guard::RenewalCompares) => return false,
            key => {
                *key = Some(Key { owner, left: LEASE, first_token: s.fence, grant: s.grants, overtaken: false });
                s.faults.revived |= released;
            }
        }
        true
    }

    /// The server's script for a release.
    fn release(&self, s: &mut State, owner: Owner) {
        if s.key.is_some_and(|key| key.owner == owner || !self.has(Guard::CompareAndDelete)) {
            s.key = None;
        }
        let process = &mut s.processes[usize::from(owner.process)];
        if let Some(request) = process.delayed.as_mut().filter(|request| request.acquire == owner.acquire) {
            request.released = true;
        }
        if let Some(Renewal::Sent { request, .. }) = &mut process.renewal {
            request.released |= request.acquire == owner.acquire;
        }
    }

    /// The register's script for a write.
    fn write(&self, s: &mut State, write: Write) {
        let register = &mut s.register;
        if write.token < register.newest_token && self.has(Guard::FenceCheck) {
            return;
        }
        register.newest_token = write.token.max(register.newest_token);
        if write.hold < register.newest_hold {
            register.older_since = true;
            s.faults.write_went_back = true;
        } else if write.hold > register.newest_hold {
            register.newest_hold = write.hold;
            register.older_since = false;
        } else {
            s.faults.writes_interleaved |= register.older_since;
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            key: None,
            fence: 0,
            register: Register::default(),
            processes: vec![Process::NEW; usize::from(self.processes)],
            grants: 0,
            top_token: 0,
            faults: Faults::default(),
        }]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Tick);
        if s.key.is_some_and(|key| key.left == 0 || !self.has(Guard::KeyLastsItsTtl)) {
            actions.push(Action::Expire);
        }
        for (i, p) in (0..).zip(&s.processes) {
            match p.phase {
                Phase::Idle if s.acquires() < self.acquires => actions.push(Action::Ask(i)),
                Phase::Idle => {}
                Phase::Asking(attempt) => {
                    let sent = matches!(attempt, Attempt::Sent { .. });
                    let granted = matches!(attempt, Attempt::Granted { .. });
                    if sent {
                        actions.push(Action::GrantArrives(i));
                    }
                    if granted {
                        actions.extend([Action::ReplyArrives(i), Action::ReplyLost(i)]);
                    } else if !(sent && p.delayed.is_some()) {
                        actions.push(Action::Retry(i));
                    }
                    if p.release.is_none() && !(sent && p.delayed.is_some()) {
                        actions.push(Action::GiveUp(i));
                    }
                }
                Phase::Holding { left, hold, .. } => {
                    if left > 0 && p.writes[usize::from(hold.hand_over)].is_none() {
                        actions.push(Action::Check(i));
                    }
                    if left > 0 && p.renewal.is_none() && self.renewals {
                        actions.push(Action::Renew(i));
                    }
                    if left > 0 && hold.hand_over + 1 < RANGE && self.hand_over {
                        actions.push(Action::HandOver(i));
                    }
                    if p.release.is_none() {
                        actions.push(Action::Release(i));
                    }
                }
            }
            if p.delayed.is_some() {
                actions.push(Action::DelayedGrantArrives(i));
            }
            match p.renewal {
                None => {}
                Some(Renewal::Sent { .. }) => actions.extend([Action::RenewalArrives(i), Action::RenewalLost(i)]),
                Some(Renewal::Renewed { .. }) => {
                    actions.extend([Action::RenewalReplyArrives(i), Action::RenewalLost(i)])
                }
            }
            if p.release.is_some() {
                actions.extend([false, true].map(|again| Action::ReleaseArrives { process: i, again }));
            }
            for (task, _) in (0..).zip(p.writes).filter(|(_, write)| write.is_some()) {
                actions.push(Action::WriteArrives { process: i, task });
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let s = &mut next;
        match action {
            Action::Tick => {
                if let Some(key) = &mut s.key {
                    key.left = key.left.saturating_sub(1);
                }
                s.processes.iter_mut().for_each(Process::tick);
            }
            Action::Expire => s.key = None,
            Action::Ask(i) => {
                let p = &mut s.processes[usize::from(i)];
                p.acquires += 1;
                p.phase = Phase::Asking(Attempt::Sent { age: 0 });
            }
            Action::Retry(i) => {
                let p = &mut s.processes[usize::from(i)];
                p.abandon_attempt();
                if !self.has(Guard::OwnerKeptInRetries) {
                    p.acquires += 1;
                }
                p.phase = Phase::Asking(Attempt::Sent { age: 0 });
            }
            Action::GiveUp(i) => {
                let p = &mut s.processes[usize::from(i)];
                p.abandon_attempt();
                p.phase = Phase::Idle;
                p.release = self.has(Guard::UndoOnCancel).then_some(p.acquires);
            }
            Action::GrantArrives(i) => {
                let p = s.processes[usize::from(i)];
                let Phase::Asking(Attempt::Sent { age }) = p.phase else { return None };
                let granted = self.grant(s, Owner { process: i, acquire: p.acquires }, false);
                let attempt = match granted {
                    Some((first_token, grant)) => Attempt::Granted { age, first_token, grant },
                    None => Attempt::Unanswered,
                };
                s.processes[usize::from(i)].phase = Phase::Asking(attempt);
            }
            Action::DelayedGrantArrives(i) => {
                let request = s.processes[usize::from(i)].delayed.take()?;
                self.grant(s, Owner { process: i, acquire: request.acquire }, request.released);
            }
            Action::ReplyArrives(i) => {
                let p = &mut s.processes[usize::from(i)];
                let Phase::Asking(Attempt::Granted { age, first_token, grant }) = p.phase else { return None };
                let hold = Hold { grant, hand_over: 0 };
                p.phase = Phase::Holding { left: self.lease(age), first_token, hold };
                s.begin(first_token);
            }
            Action::ReplyLost(i) => s.processes[usize::from(i)].phase = Phase::Asking(Attempt::Unanswered),
            Action::Renew(i) => {
                let p = &mut s.processes[usize::from(i)];
                p.renewal = Some(Renewal::Sent { age: 0, request: Late { acquire: p.acquires, released: false } });
            }
            Action::RenewalArrives(i) => {
                let Some(Renewal::Sent { age, request: Late { acquire, released } }) =
                    s.processes[usize::from(i)].renewal
                else {
                    return None;
                };
                let renewed = self.renew(s, Owner { process: i, acquire }, released);
                s.processes[usize::from(i)].renewal = renewed.then_some(Renewal::Renewed { age, acquire });
            }
            Action::RenewalReplyArrives(i) => {
                let p = &mut s.processes[usize::from(i)];
                let Some(Renewal::Renewed { age, acquire }) = p.renewal.take() else { return None };
                if let Phase::Holding { left, .. } = &mut p.phase
                    && *left > 0
                    && acquire == p.acquires
                {
                    *left = self.lease(age).max(*left);
                }
            }
            Action::RenewalLost(i) => s.processes[usize::from(i)].renewal = None,
            Action::HandOver(i) => {
                let p = &mut s.processes[usize::from(i)];
                let Phase::Holding { first_token, hold, .. } = &mut p.phase else { return None };
                hold.hand_over += 1;
                let token = self.token(*first_token, *hold);
                s.begin(token);
            }
            Action::Release(i) => {
                let p = &mut s.processes[usize::from(i)];
                p.phase = Phase::Idle;
                p.release = Some(p.acquires);
            }
            Action::ReleaseArrives { process: i, again } => {
                let acquire = s.processes[usize::from(i)].release?;
                if !again {
                    s.processes[usize::from(i)].release = None;
                }
                self.release(s, Owner { process: i, acquire });
            }
            Action::Check(i) => {
                let p = &mut s.processes[usize::from(i)];
                let Phase::Holding { first_token, hold, .. } = p.phase else { return None };
                let token = self.token(first_token, hold);
                p.writes[usize::from(hold.hand_over)] = Some(Write { token, hold });
            }
            Action::WriteArrives { process, task } => {
                let write = s.processes[usize::from(process)].writes[usize::from(task)].take()?;
                self.write(s, write);
            }
        }
        (s.grants <= self.grants && s.acquires() <= self.acquires).then(|| next.canonical())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::of(self)
    }
}
