//! The rules that every lease keeps, run against every strategy; and against broken ones, on which they fail.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use async_trait::async_trait;
use redis_lock::{Client, LockBackend, LockResource, RedisLocks};
use redis_pubsub_lock::FairLocks;
use redis_redlock::Redlock;
use redis_semaphore::{QuorumSemaphores, Semaphores};
use tokio::sync::OnceCell;
use turnstile_core::{
    BackendError, FencingToken, GrantReply, GrantRequest, LeaseBackend, LeaseManager, LeaseOptions, Owner,
    ReleaseOutcome, ReleaseReply, RenewReply, Renewal,
};
use turnstile_integration_tests::lease_rules::{self, Member, Strategy};
use turnstile_testkit::redis::{Redis, RedisProxy, Server, shared};

/// A proxy in front of each server, and a client through each.
async fn through_proxies(servers: &[Redis]) -> (Vec<Client>, Vec<RedisProxy>) {
    let (mut clients, mut proxies) = (Vec::new(), Vec::new());
    for server in servers {
        let proxy = server.proxy().await.unwrap();
        clients.push(Client::connect(proxy.url()).await.unwrap());
        proxies.push(proxy);
    }
    (clients, proxies)
}

async fn one_client() -> (Client, Vec<RedisProxy>) {
    let (mut clients, proxies) = through_proxies(&[shared().await.unwrap()]).await;
    (clients.remove(0), proxies)
}

/// Strategies that use the server that all tests share.
#[derive(Clone, Copy)]
enum OnOneServer {
    Mutex,
    Several,
    Fair,
    SemaphoreBySet,
    SemaphoreByCounter,
}

#[async_trait]
impl Strategy for OnOneServer {
    async fn member(&self) -> Member {
        let (client, proxies) = one_client().await;
        match self {
            Self::Fair => {
                let locks = FairLocks::new(client);
                let manager = locks.manager().clone();
                return Member::new(&manager, move |name| locks.lock(name).unwrap(), proxies);
            }
            Self::SemaphoreBySet | Self::SemaphoreByCounter => {
                let (semaphores, by_set) = (Semaphores::new(client), matches!(self, Self::SemaphoreBySet));
                let manager = semaphores.manager().clone();
                let locks = manager.clone();
                let one = move |name: &str| {
                    let one = if by_set { semaphores.by_set(name, 1) } else { semaphores.by_counter(name, 1) };
                    locks.lock(one.unwrap().resource().clone(), LeaseOptions::default())
                };
                return Member::new(&manager, one, proxies);
            }
            Self::Mutex | Self::Several => {}
        }
        let (locks, several) = (RedisLocks::new(client), matches!(self, OnOneServer::Several));
        let manager = locks.manager().clone();
        let lock = move |name: &str| {
            if several { locks.all([name, &format!("{{{name}}}/second")]) } else { locks.lock(name) }.unwrap()
        };
        Member::new(&manager, lock, proxies)
    }

    async fn servers(&self) -> Vec<String> {
        vec![shared().await.unwrap().url()]
    }
}

/// A quorum of three nodes, which all tests share.
struct OverThree;

async fn three() -> &'static [Server] {
    static NODES: OnceCell<Vec<Server>> = OnceCell::const_new();
    NODES
        .get_or_init(|| async {
            let mut nodes = Vec::new();
            for _ in 0..3 {
                nodes.push(Redis::start().await.unwrap());
            }
            nodes
        })
        .await
}

#[async_trait]
impl Strategy for OverThree {
    async fn member(&self) -> Member {
        let nodes: Vec<Redis> = three().await.iter().map(|node| Redis::clone(node)).collect();
        let (clients, proxies) = through_proxies(&nodes).await;
        let locks = Redlock::builder(clients).build().unwrap();
        let manager = locks.manager().clone();
        Member::new(&manager, move |name| locks.lock(name).unwrap(), proxies)
    }

    async fn servers(&self) -> Vec<String> {
        three().await.iter().map(|node| node.url()).collect()
    }
}

/// A semaphore of one over the same three nodes.
struct SemaphoreOverThree;

#[async_trait]
impl Strategy for SemaphoreOverThree {
    async fn member(&self) -> Member {
        let nodes: Vec<Redis> = three().await.iter().map(|node| Redis::clone(node)).collect();
        let (clients, proxies) = through_proxies(&nodes).await;
        let semaphores = QuorumSemaphores::builder(clients).build().unwrap();
        let manager = semaphores.by_set("any", 1).unwrap().manager().clone();
        let locks = manager.clone();
        let one = move |name: &str| {
            locks.lock(semaphores.by_set(name, 1).unwrap().resource().clone(), LeaseOptions::default())
        };
        Member::new(&manager, one, proxies)
    }

    async fn servers(&self) -> Vec<String> {
        OverThree.servers().await
    }
}

/// All rules for one strategy.
macro_rules! rules_of {
    ($module:ident, $strategy:expr) => {
        rules_of!($module, $strategy,
            it_is_lost_at_its_deadline_with_the_network_dead
            it_is_lost_at_once_when_the_servers_say_so
            it_is_renewed_until_it_is_given_back
            each_grant_has_a_higher_token
            a_cancelled_acquire_leaves_nothing_behind
            a_dropped_lease_is_given_back_without_a_runtime
            a_grant_whose_reply_was_lost_is_ones_own
            no_clock_of_a_client_reaches_the_servers
            waiters_of_one_process_are_served_in_order_and_starve_no_other
        );
    };
    ($module:ident, $strategy:expr, $($rule:ident)*) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test]
                async fn $rule() {
                    lease_rules::$rule(&$strategy).await;
                }
            )*
        }
    };
}

rules_of!(mutex, OnOneServer::Mutex);
rules_of!(several_names, OnOneServer::Several);
rules_of!(fair_lock, OnOneServer::Fair);
rules_of!(redlock, OverThree);
rules_of!(semaphore_by_set, OnOneServer::SemaphoreBySet);
rules_of!(semaphore_by_counter, OnOneServer::SemaphoreByCounter);
rules_of!(semaphore_over_a_quorum, SemaphoreOverThree);

// ── Negative controls ───────────────────────────────────────────────────────────────────────────────────────────────

/// What a strategy may do wrong.
#[derive(Clone, Copy)]
enum Fault {
    SameTokenAlways,
    AskedAgainIsAnother,
    ReleaseDoesNothing,
}

/// A lock of redis-lock with a fault.
struct Broken {
    locks: RedisLocks,
    fault: Fault,
}

impl Broken {
    fn backend(&self) -> &LockBackend {
        self.locks.manager().backend()
    }
}

#[async_trait]
impl LeaseBackend for Broken {
    type Resource = LockResource;
    const STRATEGY: &'static str = "test";

    async fn grant(&self, mut request: GrantRequest<'_, LockResource>) -> Result<GrantReply, BackendError> {
        if matches!(self.fault, Fault::AskedAgainIsAnother) {
            request.owner = Owner::random();
        }
        Ok(match (self.backend().grant(request).await?, self.fault) {
            (GrantReply::Granted { .. }, Fault::SameTokenAlways) => {
                GrantReply::Granted { first_token: FencingToken::new(1) }
            }
            (reply, _) => reply,
        })
    }

    async fn renew(&self, leases: &[Renewal<LockResource>]) -> Vec<Result<RenewReply, BackendError>> {
        self.backend().renew(leases).await
    }

    async fn release(&self, resource: &LockResource, owner: Owner) -> Result<ReleaseReply, BackendError> {
        match self.fault {
            Fault::ReleaseDoesNothing => Ok(ReleaseReply::new(ReleaseOutcome::Released, None)),
            _ => self.backend().release(resource, owner).await,
        }
    }
}

#[async_trait]
impl Strategy for Fault {
    async fn member(&self) -> Member {
        let (client, proxies) = one_client().await;
        let locks = RedisLocks::new(client);
        let manager = LeaseManager::new(Broken { locks: locks.clone(), fault: *self });
        let resource = move |name: &str| locks.lock(name).unwrap().resource().clone();
        let lock = {
            let manager = manager.clone();
            move |name: &str| manager.lock(resource(name), LeaseOptions::default())
        };
        Member::new(&manager, lock, proxies)
    }

    async fn servers(&self) -> Vec<String> {
        vec![shared().await.unwrap().url()]
    }
}

/// That a rule does not hold for a strategy with that fault.
macro_rules! fails {
    ($name:ident, $fault:expr, $rule:ident) => {
        #[tokio::test]
        async fn $name() {
            let outcome = tokio::spawn(lease_rules::$rule(&$fault)).await;
            assert!(outcome.is_err_and(|error| error.is_panic()), "the rule did not notice");
        }
    };
}

fails!(a_token_that_does_not_rise_is_noticed, Fault::SameTokenAlways, each_grant_has_a_higher_token);
fails!(a_grant_that_is_not_recognised_is_noticed, Fault::AskedAgainIsAnother, a_grant_whose_reply_was_lost_is_ones_own);
fails!(
    a_release_that_does_nothing_is_noticed_when_cancelled,
    Fault::ReleaseDoesNothing,
    a_cancelled_acquire_leaves_nothing_behind
);
fails!(
    a_release_that_does_nothing_is_noticed_when_dropped,
    Fault::ReleaseDoesNothing,
    a_dropped_lease_is_given_back_without_a_runtime
);
