//! What a state is made of. Fields marked *ghost* are seen by the properties alone: no step depends on them.

/// For how many ticks a lease lasts by its holder's clock: ttl − drift. The server's key lasts at least as long from
/// the moment the request arrives there, and ends at any time after.
pub const LEASE: u8 = 2;
/// How many tokens a grant reserves: the first, and one for each hand-over in memory.
pub const RANGE: u8 = 2;

/// One owner: a process, and which of its acquires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    pub process: u8,
    pub acquire: u8,
}

/// The holds in the order in which they began (ghost): by grant, then by hand-over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hold {
    pub grant: u8,
    pub hand_over: u8,
}

/// The lock's key on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub owner: Owner,
    /// Ticks until it may end. At zero it is still there, until the server comes to expire it.
    pub left: u8,
    pub first_token: u8,
    /// Ghost: the number of this grant.
    pub grant: u8,
    /// Ghost: the request came after the release that undid it.
    pub overtaken: bool,
}

/// The resource that the lock protects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Register {
    pub newest_token: u8,
    /// Ghost: the newest hold whose write was accepted.
    pub newest_hold: Hold,
    /// Ghost: an older hold's write was accepted since.
    pub older_since: bool,
}

/// A write whose deadline was checked and which has not reached the register: its task is paused, or it is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Write {
    pub token: u8,
    /// Ghost.
    pub hold: Hold,
}

/// The newest attempt of an acquire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attempt {
    /// On its way to the server.
    Sent { age: u8 },
    /// Granted; the reply is on its way.
    Granted { age: u8, first_token: u8, grant: u8 },
    /// Refused, or the reply was lost or too late: the process cannot tell which.
    Unanswered,
}

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    Idle,
    Asking(Attempt),
    /// Its task number `hold.hand_over` holds the lease: validly while `left` is above zero.
    Holding {
        left: u8,
        first_token: u8,
        hold: Hold,
    },
}

/// A request of an owner that may be history by the time it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Late {
    pub acquire: u8,
    /// Ghost: a release of the same owner has been carried out.
    pub released: bool,
}

/// A renewal under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Renewal {
    Sent { age: u8, request: Late },
    Renewed { age: u8, acquire: u8 },
}

/// A process, its tasks, and what it has in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    /// How many acquires it has begun: the last one's number is its present owner.
    pub acquires: u8,
    pub phase: Phase,
    /// An older attempt that is still on its way.
    pub delayed: Option<Late>,
    pub renewal: Option<Renewal>,
    /// A release on its way, for this acquire. It is retried until it is answered: late at times, never lost.
    pub release: Option<u8>,
    pub writes: [Option<Write>; RANGE as usize],
}

/// What went wrong (ghost), where a state alone does not show it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    pub write_went_back: bool,
    pub writes_interleaved: bool,
    pub token_not_above: bool,
    pub granted_twice: bool,
    pub revived: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub key: Option<Key>,
    pub fence: u8,
    pub register: Register,
    pub processes: Vec<Process>,
    /// Ghost: how many grants there were.
    pub grants: u8,
    /// Ghost: the highest token that anybody held.
    pub top_token: u8,
    pub faults: Faults,
}

impl Process {
    pub const NEW: Self = Self {
        acquires: 0,
        phase: Phase::Idle,
        delayed: None,
        renewal: None,
        release: None,
        writes: [None; RANGE as usize],
    };

    /// The attempt is not waited for any longer: a request that is on its way still arrives, or never does.
    pub fn abandon_attempt(&mut self) {
        if let Phase::Asking(Attempt::Sent { .. }) = self.phase {
            self.delayed = Some(Late { acquire: self.acquires, released: false });
        }
    }

    /// Ages and answers that make no difference any more are forgotten, so that such states are one.
    fn forget(&mut self) {
        let current = |acquire| acquire == self.acquires && matches!(self.phase, Phase::Holding { left: 1.., .. });
        match &mut self.renewal {
            Some(Renewal::Sent { age, request }) if !current(request.acquire) => *age = LEASE,
            Some(Renewal::Renewed { age, acquire }) if *age >= LEASE || !current(*acquire) => self.renewal = None,
            _ => {}
        }
        if matches!(self.phase, Phase::Asking(Attempt::Granted { age: LEASE.., .. })) {
            self.phase = Phase::Asking(Attempt::Unanswered);
        }
    }

    pub fn tick(&mut self) {
        match &mut self.phase {
            Phase::Asking(Attempt::Sent { age } | Attempt::Granted { age, .. }) => *age = LEASE.min(*age + 1),
            Phase::Holding { left, .. } => *left = left.saturating_sub(1),
            Phase::Idle | Phase::Asking(Attempt::Unanswered) => {}
        }
        if let Some(Renewal::Sent { age, .. } | Renewal::Renewed { age, .. }) = &mut self.renewal {
            *age = LEASE.min(*age + 1);
        }
    }
}

impl State {
    pub fn acquires(&self) -> u8 {
        self.processes.iter().map(|p| p.acquires).sum()
    }

    /// A task begins to hold a token.
    pub fn begin(&mut self, token: u8) {
        self.faults.token_not_above |= token <= self.top_token;
        self.top_token = token.max(self.top_token);
    }

    /// The processes are alike: states that differ only in which is which are one.
    pub fn canonical(mut self) -> Self {
        self.processes.iter_mut().for_each(Process::forget);
        for end in (1..self.processes.len()).rev() {
            for i in 0..end {
                if self.rank(i) > self.rank(i + 1) {
                    self.swap_with_next(i);
                }
            }
        }
        self
    }

    fn rank(&self, i: usize) -> (&Process, bool) {
        (&self.processes[i], self.key.is_some_and(|key| usize::from(key.owner.process) == i))
    }

    fn swap_with_next(&mut self, i: usize) {
        self.processes.swap(i, i + 1);
        if let Some(key) = &mut self.key {
            match usize::from(key.owner.process) {
                owner if owner == i => key.owner.process += 1,
                owner if owner == i + 1 => key.owner.process -= 1,
                _ => {}
            }
        }
    }
}
