//! What tells this process's waiters that asking is worth it: one connection and one channel for all of them.
//!
//! A message is a hint. Without it, or without the connection, waiters ask by themselves a little later.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use redis_lua::Client;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use turnstile_core::Owner;

type Waiters = Arc<Mutex<HashMap<String, Arc<Notify>>>>;

pub(crate) struct Wakes {
    client: Client,
    pub(crate) channel: String,
    waiters: Waiters,
    listening: Mutex<Option<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wakes {
    pub(crate) fn new(client: Client) -> Self {
        let channel = format!("turnstile:semaphore:{}", Owner::random());
        Self { client, channel, waiters: Waiters::default(), listening: Mutex::default() }
    }

    /// Before a waiter asks: messages to it count from now on.
    pub(crate) fn expect(&self, owner: Owner) {
        lock(&self.waiters).entry(owner.to_string()).or_default();
        let mut listening = lock(&self.listening);
        if listening.as_ref().is_none_or(JoinHandle::is_finished) {
            let (client, channel, waiters) = (self.client.clone(), self.channel.clone(), self.waiters.clone());
            *listening = Some(tokio::spawn(async move {
                let Ok(mut pubsub) = client.pubsub().await else {
                    return tokio::time::sleep(Duration::from_secs(1)).await;
                };
                if pubsub.subscribe(&channel).await.is_ok() {
                    // What was said before was not heard.
                    lock(&waiters).values().for_each(|waiter| waiter.notify_one());
                    let mut messages = pubsub.into_on_message();
                    while let Some(message) = messages.next().await {
                        let owner: String = message.get_payload().unwrap_or_default();
                        if let Some(waiter) = lock(&waiters).get(&owner) {
                            waiter.notify_one();
                        }
                    }
                }
            }));
        }
    }

    pub(crate) fn forget(&self, owner: Owner) {
        lock(&self.waiters).remove(&owner.to_string());
    }

    /// Until `owner` was told something, or `at_most` is over.
    pub(crate) async fn told(&self, owner: Owner, at_most: Duration) {
        let waiter = lock(&self.waiters).get(&owner.to_string()).cloned();
        match waiter {
            Some(waiter) => drop(tokio::time::timeout(at_most, waiter.notified()).await),
            None => tokio::time::sleep(at_most).await,
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        if let Some(listening) = lock(&self.listening).take() {
            listening.abort();
        }
    }
}

impl fmt::Debug for Wakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakes").field("channel", &self.channel).finish_non_exhaustive()
    }
}
