//! A semaphore as the server has it: limit, holders, queue.

use std::time::Duration;

use redis_lua::redis::Value;
use redis_lua::{Client, Script};
use turnstile_core::FencingToken;

use crate::SemaphoreError;
use crate::backend::{checked, part, script};
use crate::resource::{Form, SemaphoreResource};

static LOOK: Script = script!("look", "", "time", "common", "look");

/// One holder of permits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The owner of the lease: 32 hexadecimal digits.
    pub owner: String,
    /// What the holder's process calls itself.
    pub label: String,
    /// How many permits it holds.
    pub weight: u32,
    /// The fencing token of the grant.
    pub token: FencingToken,
    /// How long it has held them, by the server's clock.
    pub held_for: Duration,
    /// How long until they end unless they are renewed.
    pub remaining: Duration,
    /// Whether it knows: who was next when a permit was released has it until it says so, or shows no sign of life.
    pub confirmed: bool,
}

/// One waiter in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiter {
    /// The owner of the lease to come: 32 hexadecimal digits.
    pub owner: String,
    /// What the waiter's process calls itself.
    pub label: String,
    /// How many permits it asks for.
    pub weight: u32,
    /// How long it has waited, by the server's clock.
    pub waited: Duration,
}

/// A semaphore as the server has it, at one moment. It may have changed when the answer arrives: to look at, not to decide
/// by.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// How the server counts; `None` before the first use.
    pub form: Option<Form>,
    /// The limit that the server keeps; `None` before the first use.
    pub limit: Option<u32>,
    /// Who holds permits; those that end first come first.
    pub holders: Vec<Holder>,
    /// Who waits, in order.
    pub queue: Vec<Waiter>,
}

impl State {
    /// How many permits are held.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.holders.iter().fold(0, |sum, holder| sum.saturating_add(holder.weight))
    }
}

/// Asks the server.
pub(crate) async fn look(client: &Client, resource: &SemaphoreResource) -> Result<State, SemaphoreError> {
    let reply: Vec<Value> = LOOK.keys(resource.keys()).run(client).await?;
    let reply = checked(resource, reply)?;
    let text = |at: usize| part::<String>(&reply, at).unwrap_or_default();
    let now = number(&text(1));
    let after_holders = 5 + 3 * part::<usize>(&reply, 4).unwrap_or_default();
    let holders = (5..after_holders).step_by(3).map(|at| Holder::read(text(at), now, &text(at + 1), &text(at + 2)));
    let queue = (after_holders..reply.len()).step_by(2).map(|at| Waiter::read(text(at), now, &text(at + 1)));
    Ok(State {
        form: Form::of(&text(2)),
        limit: text(3).parse().ok(),
        holders: holders.collect(),
        queue: queue.collect(),
    })
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_default()
}

fn span(millis: f64) -> Duration {
    Duration::from_millis(millis.max(0.0) as u64)
}

impl Holder {
    /// `weight token since confirmed label`, as the scripts write it.
    fn read(owner: String, now: f64, ends: &str, about: &str) -> Self {
        let mut words = about.splitn(5, ' ');
        let mut word = || words.next().unwrap_or_default();
        Self {
            owner,
            weight: word().parse().unwrap_or(1),
            token: FencingToken::new(word().parse().unwrap_or_default()),
            held_for: span(now - number(word())),
            confirmed: word() == "1",
            label: word().to_owned(),
            remaining: span(number(ends) - now),
        }
    }
}

impl Waiter {
    /// Weight, limit, ms between signs of life, since when, channel and label, a line each.
    fn read(owner: String, now: f64, about: &str) -> Self {
        let lines: Vec<&str> = about.splitn(6, '\n').collect();
        let line = |at: usize| lines.get(at).copied().unwrap_or_default();
        Self {
            owner,
            weight: line(0).parse().unwrap_or(1),
            waited: span(now - number(line(3))),
            label: line(5).to_owned(),
        }
    }
}
