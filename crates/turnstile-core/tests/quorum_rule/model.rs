//! The steps: what processes, nodes and the network between them do.

use std::fmt::Debug;

use stateright::{Model, Property};

/// What keeps the rule right. A model may lack one, to see that the checker finds it missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// More than half of the nodes have to say yes, not half.
    MoreThanHalf,
    /// The lease is counted from the first request, not from the last answer.
    CountedFromSending,
    /// What clocks may differ by is taken off the lease.
    DriftWithinBound,
    /// A node that was restarted and forgot is kept out for a time to live.
    DelayedRestart,
    /// Nodes know each attempt by an identity of its own, so that what undoes one leaves the next alone.
    IdentityPerAttempt,
    /// The largest token is written back to a majority before it is handed out.
    WriteBack,
    /// It is written back to nodes that granted the lease, not to others, which may have granted it to another before.
    WriteBackWhereGranted,
    /// A renewal needs as many nodes as a grant.
    RenewalByQuorum,
}

#[derive(Debug, Clone)]
pub struct Rule {
    pub nodes: usize,
    /// For how many ticks a lease lasts by its holder's clock: ttl − drift. On a node it surely lasts as long, and may
    /// end at any time after.
    pub lease: u8,
    /// How many attempts each process begins.
    pub attempts: u8,
    /// How many restarts nodes have in all, and whether they forget all that they had.
    pub restarts: u8,
    pub forgetful: bool,
    pub tokens: bool,
    pub renewals: bool,
    pub without: Option<Guard>,
}

/// The two that compete.
pub const PROCESSES: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub process: usize,
    /// Of the attempt that the process is at. One of an attempt before may go at any time, undone or ended.
    pub current: bool,
    /// For how many ticks it surely stays.
    pub sure: u8,
}

/// A request of a process to a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// There is none, or it was answered with no, or answer or request was lost.
    #[default]
    None,
    UnderWay,
    /// Answered with yes, for a grant with this token.
    Yes(u8),
}

/// What is under way between one process and one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Line {
    pub grant: Request,
    pub raise: Request,
    pub renewal: Request,
    /// The request of an attempt that was given up.
    pub late_grant: bool,
    /// What undoes such an attempt, or a release.
    pub undo: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    pub key: Option<Key>,
    pub fence: u8,
    pub kept_out: u8,
    pub lines: [Line; PROCESSES],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    Idle,
    Asking { age: u8 },
    Raising { age: u8, token: u8 },
    Holding { left: u8, renewing: Option<u8> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    pub attempts: u8,
    pub phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// In order: which node is which does not matter.
    pub nodes: Vec<Node>,
    pub processes: [Process; PROCESSES],
    pub restarts: u8,
    /// Seen by the properties alone.
    pub top_token: u8,
    pub token_fell: bool,
    pub raised: bool,
    pub renewed: bool,
}

impl State {
    /// The same but for the names of nodes and processes.
    fn canonical(&self) -> Self {
        let (mut one, mut other) = (self.clone(), self.clone());
        one.nodes.sort_unstable();
        other.processes.swap(0, 1);
        for node in &mut other.nodes {
            node.lines.swap(0, 1);
            node.key.iter_mut().for_each(|key| key.process = 1 - key.process);
        }
        other.nodes.sort_unstable();
        if (&one.processes, &one.nodes) <= (&other.processes, &other.nodes) { one } else { other }
    }
}

/// One step: of a process, or where a process and a node meet. Numbers hold for this step only: see [`State::canonical`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Tick,
    Expire(usize),
    Restart(usize),
    Ask(usize),
    GrantArrives(usize, usize),
    LateGrantArrives(usize, usize),
    UndoArrives(usize, usize),
    /// So many nodes said yes, with this token as the largest of their answers.
    Decide {
        process: usize,
        token: u8,
    },
    RaiseArrives(usize, usize),
    Raised(usize),
    GiveUp(usize),
    Renew(usize),
    RenewalArrives(usize, usize),
    Renewed(usize),
    Release(usize),
}

impl Rule {
    fn has(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }

    fn needed(&self) -> usize {
        self.nodes / 2 + usize::from(self.has(Guard::MoreThanHalf))
    }

    /// For how long a key surely stays on a node, by the holder's clock.
    fn surely(&self) -> u8 {
        self.lease - u8::from(!self.has(Guard::DriftWithinBound))
    }

    fn left(&self, age: u8) -> u8 {
        if self.has(Guard::CountedFromSending) { self.lease.saturating_sub(age) } else { self.lease }
    }

    /// The largest tokens that enough answers can have.
    fn tokens(&self, s: &State, process: usize) -> Vec<u8> {
        let yes = |node: &Node| if let Request::Yes(token) = node.lines[process].grant { Some(token) } else { None };
        let mut tokens: Vec<u8> = s.nodes.iter().filter_map(yes).collect();
        tokens.sort_unstable();
        let mut largest = tokens.split_off(tokens.len().min(self.needed() - 1));
        largest.dedup();
        largest
    }

    /// How many nodes count beyond the token, as far as the process knows.
    fn counting(&self, s: &State, process: usize, token: u8) -> usize {
        let counts = |line: &Line| {
            matches!(line.grant, Request::Yes(its) if its >= token) || matches!(line.raise, Request::Yes(_))
        };
        s.nodes.iter().filter(|node| counts(&node.lines[process])).count()
    }

    fn counts_enough(&self, s: &State, process: usize, token: u8) -> bool {
        let enough = self.nodes - self.needed() + 1;
        !self.tokens || !self.has(Guard::WriteBack) || self.counting(s, process, token) >= enough
    }

    /// Has a node count beyond the token, where it does not.
    fn raise(&self, line: &mut Line, token: u8) {
        let behind = match line.grant {
            Request::Yes(its) => its < token,
            Request::None | Request::UnderWay => !self.has(Guard::WriteBackWhereGranted),
        };
        if behind && line.raise == Request::None {
            line.raise = Request::UnderWay;
        }
    }

    fn hold(&self, s: &mut State, process: usize, age: u8, token: u8) {
        s.processes[process].phase = Phase::Holding { left: self.left(age), renewing: None };
        for node in &mut s.nodes {
            let line = &mut node.lines[process];
            line.raise = Request::None;
            if let Request::Yes(token) = &mut line.grant {
                *token = 0; // no longer of interest
            }
        }
        if self.tokens {
            s.token_fell |= token <= s.top_token;
            s.top_token = s.top_token.max(token);
        }
    }

    /// A node's script for a grant: its token, if it is free and may vote.
    fn grant(&self, node: &mut Node, process: usize, current: bool) -> Request {
        if node.key.is_some() || node.kept_out > 0 {
            return Request::None;
        }
        node.key = Some(Key { process, current, sure: if current { self.surely() } else { 0 } });
        node.fence += u8::from(self.tokens);
        Request::Yes(node.fence)
    }

    /// What a process had under way is history now, and is undone.
    fn leave(&self, s: &mut State, process: usize) {
        for node in &mut s.nodes {
            let line = &mut node.lines[process];
            // With the guard, all that it could do is end a key that may end anyway.
            let undo = line.undo || line.grant != Request::None && !self.has(Guard::IdentityPerAttempt);
            let late_grant = line.late_grant || line.grant == Request::UnderWay;
            *line = Line { undo, late_grant, ..Line::default() };
            if let Some(key) = node.key.as_mut().filter(|key| key.process == process) {
                (key.current, key.sure) = (false, 0);
            }
        }
        s.processes[process].phase = Phase::Idle;
    }
}

impl Model for Rule {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let process = Process { attempts: 0, phase: Phase::Idle };
        vec![State {
            nodes: vec![Node::default(); self.nodes],
            processes: [process; PROCESSES],
            restarts: 0,
            top_token: 0,
            token_fell: false,
            raised: false,
            renewed: false,
        }]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Tick);
        for (n, node) in s.nodes.iter().enumerate() {
            if n > 0 && s.nodes[n - 1] == *node {
                continue; // the same as the one before: so are its steps
            }
            if node.key.is_some_and(|key| key.sure == 0) {
                actions.push(Action::Expire(n));
            }
            if s.restarts < self.restarts {
                actions.push(Action::Restart(n));
            }
            for (p, line) in node.lines.iter().enumerate() {
                for (under_way, action) in [
                    (line.grant == Request::UnderWay, Action::GrantArrives(p, n)),
                    (line.raise == Request::UnderWay, Action::RaiseArrives(p, n)),
                    (line.renewal == Request::UnderWay, Action::RenewalArrives(p, n)),
                    (line.late_grant, Action::LateGrantArrives(p, n)),
                    (line.undo, Action::UndoArrives(p, n)),
                ] {
                    actions.extend(under_way.then_some(action));
                }
            }
        }
        for (p, process) in s.processes.iter().enumerate() {
            match process.phase {
                Phase::Idle if process.attempts < self.attempts => actions.push(Action::Ask(p)),
                Phase::Idle => {}
                Phase::Asking { .. } => {
                    actions.push(Action::GiveUp(p));
                    let decide = |token| Action::Decide { process: p, token };
                    actions.extend(self.tokens(s, p).into_iter().map(decide));
                }
                Phase::Raising { token, .. } => {
                    actions.push(Action::GiveUp(p));
                    if self.counts_enough(s, p, token) {
                        actions.push(Action::Raised(p));
                    }
                }
                Phase::Holding { renewing, .. } => {
                    actions.push(Action::Release(p));
                    match renewing {
                        None if self.renewals => actions.push(Action::Renew(p)),
                        Some(age) if self.lease > age => {
                            let yes = |node: &&Node| matches!(node.lines[p].renewal, Request::Yes(_));
                            let needed = if self.has(Guard::RenewalByQuorum) { self.needed() } else { 1 };
                            if s.nodes.iter().filter(yes).count() >= needed {
                                actions.push(Action::Renewed(p));
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let s = &mut next;
        match action {
            Action::Tick => {
                for node in &mut s.nodes {
                    node.kept_out = node.kept_out.saturating_sub(1);
                    if let Some(key) = &mut node.key {
                        key.sure = key.sure.saturating_sub(1);
                    }
                }
                for p in 0..PROCESSES {
                    let older = |age: &mut u8| *age = self.lease.min(*age + 1);
                    let over = match &mut s.processes[p].phase {
                        Phase::Idle => false,
                        Phase::Asking { age } | Phase::Raising { age, .. } => {
                            older(age);
                            self.left(*age) == 0
                        }
                        Phase::Holding { left, renewing } => {
                            *left -= 1;
                            renewing.iter_mut().for_each(older);
                            *left == 0
                        }
                    };
                    // It can do nothing more with it.
                    if over {
                        self.leave(s, p);
                    }
                }
            }
            Action::Expire(n) => s.nodes[n].key = None,
            Action::Restart(n) => {
                s.restarts += 1;
                let node = &mut s.nodes[n];
                if self.forgetful {
                    (node.key, node.fence) = (None, 0);
                }
                if self.has(Guard::DelayedRestart) {
                    node.kept_out = self.surely();
                }
            }
            Action::Ask(p) => {
                s.processes[p].attempts += 1;
                s.processes[p].phase = Phase::Asking { age: 0 };
                s.nodes.iter_mut().for_each(|node| node.lines[p].grant = Request::UnderWay);
            }
            Action::GrantArrives(p, n) => {
                let node = &mut s.nodes[n];
                node.lines[p].grant = self.grant(node, p, true);
                if let Phase::Raising { token, .. } = s.processes[p].phase {
                    self.raise(&mut node.lines[p], token);
                }
            }
            Action::LateGrantArrives(p, n) => {
                let node = &mut s.nodes[n];
                node.lines[p].late_grant = false;
                self.grant(node, p, false);
            }
            Action::UndoArrives(p, n) => {
                let node = &mut s.nodes[n];
                node.lines[p].undo = false;
                let its = |key: &Key| key.process == p && !(key.current && self.has(Guard::IdentityPerAttempt));
                if node.key.as_ref().is_some_and(its) {
                    node.key = None;
                }
            }
            Action::Decide { process, token } => {
                let Phase::Asking { age } = s.processes[process].phase else { return None };
                if self.counts_enough(s, process, token) {
                    self.hold(s, process, age, token);
                } else {
                    s.processes[process].phase = Phase::Raising { age, token };
                    for node in &mut s.nodes {
                        self.raise(&mut node.lines[process], token);
                    }
                }
            }
            Action::RaiseArrives(p, n) => {
                let Phase::Raising { token, .. } = s.processes[p].phase else { return None };
                let node = &mut s.nodes[n];
                node.lines[p].raise = Request::Yes(0);
                node.fence = node.fence.max(token);
            }
            Action::Raised(p) => {
                let Phase::Raising { age, token } = s.processes[p].phase else { return None };
                s.raised = true;
                self.hold(s, p, age, token);
            }
            Action::GiveUp(p) | Action::Release(p) => self.leave(s, p),
            Action::Renew(p) => {
                let Phase::Holding { renewing, .. } = &mut s.processes[p].phase else { return None };
                *renewing = Some(0);
                s.nodes.iter_mut().for_each(|node| node.lines[p].renewal = Request::UnderWay);
            }
            Action::RenewalArrives(p, n) => {
                let node = &mut s.nodes[n];
                let held = node.key.as_mut().filter(|key| key.process == p && key.current);
                node.lines[p].renewal = match held {
                    Some(key) => {
                        key.sure = self.surely();
                        Request::Yes(0)
                    }
                    None => Request::None,
                };
            }
            Action::Renewed(p) => {
                let Phase::Holding { left, renewing: Some(age) } = s.processes[p].phase else { return None };
                s.renewed = true;
                let left = left.max(self.left(age));
                s.processes[p].phase = Phase::Holding { left, renewing: None };
                s.nodes.iter_mut().for_each(|node| node.lines[p].renewal = Request::None);
            }
        }
        Some(s.canonical())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        crate::properties(self)
    }
}
