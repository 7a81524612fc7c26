//! What backends of leases share, whatever their scripts are.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use turnstile_core::{BackendError, RenewReply, Renewal};

use crate::{Client, Name};

/// What a process calls itself unless it is told otherwise: its host name and process id.
#[must_use]
pub fn process_label() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
    format!("{}:{}", host.as_deref().unwrap_or("unknown"), std::process::id())
}

/// Renews many leases in as few calls as it takes: one for each kind, and on a cluster for each slot.
///
/// `about` tells a lease's kind and a name of it; `call` sends one call, whose reply says in order what was renewed.
pub async fn renew_in_batches<'a, R, K, F>(
    client: &Client,
    leases: &'a [Renewal<R>],
    about: impl Fn(&R) -> (K, &Name),
    call: impl Fn(K, Vec<&'a Renewal<R>>) -> F,
) -> Vec<Result<RenewReply, BackendError>>
where
    K: Ord + Copy,
    F: Future<Output = Result<Vec<bool>, BackendError>>,
{
    let mut batches: BTreeMap<(K, u16), Vec<usize>> = BTreeMap::new();
    for (at, lease) in leases.iter().enumerate() {
        let (kind, name) = about(&lease.resource);
        batches.entry((kind, if client.is_cluster() { name.slot() } else { 0 })).or_default().push(at);
    }
    let calls = batches.into_iter().map(|((kind, _), places)| {
        let answer = call(kind, places.iter().map(|&at| &leases[at]).collect());
        async move { (places, answer.await) }
    });
    let mut replies = vec![Ok(RenewReply::NotHeld); leases.len()];
    for (places, answer) in join_all(calls).await {
        for (nth, at) in places.into_iter().enumerate() {
            replies[at] = answer.as_ref().map_err(Clone::clone).map(|renewed| match renewed.get(nth) {
                Some(true) => RenewReply::Renewed,
                _ => RenewReply::NotHeld,
            });
        }
    }
    replies
}
