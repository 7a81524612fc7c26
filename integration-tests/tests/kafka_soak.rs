//! Rounds of random trouble: members join, leave, are killed and suspended, the broker is killed and comes back, the network
//! is cut; and each round's history is judged. One round, or `TURNSTILE_SOAK_ROUNDS`; `TURNSTILE_SOAK_SEED` does one again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use turnstile_integration_tests::kafka::{Kind, Parallel, Process, Protocol, Scene};
use turnstile_testkit::history::{Fault, Order, Verdict};
use turnstile_testkit::kafka::{Kafka, KafkaProxy};

const MEMBER: &str = env!("CARGO_BIN_EXE_member");
const SESSION: Duration = Duration::from_secs(2);
/// Of trouble in a round.
const STEPS: usize = 6;

struct Crew<'a> {
    scene: &'a Scene,
    members: Vec<Process>,
    proxies: Vec<KafkaProxy>,
    born: usize,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test]
async fn whatever_happens_to_members_brokers_and_network_each_history_is_clean() {
    let rounds = number("TURNSTILE_SOAK_ROUNDS").unwrap_or(1);
    let first = number("TURNSTILE_SOAK_SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    let (mut reached, mut done) = (Vec::new(), 0);
    for seed in first..first + rounds {
        let (verdict, faults) = round(seed).await;
        assert!(verdict.is_clean(), "TURNSTILE_SOAK_SEED={seed}: {faults:?}\n{verdict}");
        assert_eq!(verdict.done, verdict.produced, "TURNSTILE_SOAK_SEED={seed}: {verdict}");
        println!(
            "seed {seed}: {} records, {} assignments, {} repeated, {faults:?}",
            verdict.done, verdict.assignments, verdict.duplicates
        );
        done += verdict.done;
        reached.extend(faults);
    }
    assert!(!reached.is_empty() && done > 0);
}

async fn round(seed: u64) -> (Verdict, Vec<&'static str>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut kafka = Kafka::start().await.unwrap();
    let mut scene = Scene::new(MEMBER, &kafka, 6).await.unwrap();
    scene.role.protocol = [Protocol::Cooperative, Protocol::Eager, Protocol::Consumer][random.random_range(0..3)];
    scene.role.kind = Kind::Parallel(Parallel { concurrency: random.random_range(1..300), ..Parallel::default() });
    scene.role.session = SESSION;
    scene.role.options = vec![("reconnect.backoff.max.ms".to_owned(), "200".to_owned())];
    (scene.order, scene.keys) = (Order::Key, 60);
    let mut faults = Vec::new();
    {
        let mut crew = Crew { scene: &scene, members: Vec::new(), proxies: Vec::new(), born: 0 };
        crew.joins();
        crew.joins();
        for _ in 0..STEPS {
            scene.produce(random.random_range(60..400), "", None).await.unwrap();
            let before = scene.done_by(None);
            let chosen = random.random_range(0..crew.members.len().max(1));
            match random.random_range(0..8) {
                0 | 1 => {
                    faults.push("join");
                    crew.joins();
                }
                2 if crew.members.len() > 1 => {
                    faults.push("leave");
                    crew.members.swap_remove(chosen).ended().await.unwrap();
                }
                3 | 4 if !crew.members.is_empty() => {
                    faults.push("kill");
                    crew.members.swap_remove(chosen).killed().await.unwrap();
                    crew.joins();
                }
                5 if !crew.members.is_empty() => {
                    faults.push("stop");
                    let member = &crew.members[chosen];
                    member.stopped().unwrap();
                    tokio::time::sleep(SESSION.mul_f64(random.random_range(0.2..2.5))).await;
                    member.continued().unwrap();
                }
                6 => {
                    faults.push("broker");
                    scene.fault(Fault::Cut).unwrap();
                    kafka.kill().await.unwrap();
                    kafka.restart().await.unwrap();
                    scene.fault(Fault::Mended).unwrap();
                }
                _ => {
                    faults.push("cut");
                    crew.cut_off(&kafka, SESSION.mul_f64(random.random_range(0.2..2.5))).await;
                }
            }
            // Between faults somebody gets on, so that they meet work.
            let some = random.random_range(1..60);
            turnstile_integration_tests::until("work goes on", async || {
                let now = scene.done_by(None);
                if now < before + some {
                    scene.produce(20, "", None).await.unwrap();
                }
                now >= before + some
            })
            .await;
        }
        scene.until_all_committed().await;
        for member in crew.members {
            member.ended().await.unwrap();
        }
    }
    (scene.verdict().await.unwrap(), faults)
}

impl Crew<'_> {
    fn joins(&mut self) {
        self.born += 1;
        self.members.push(self.scene.member(&format!("member-{}", self.born)).unwrap());
    }

    /// A member joins through a proxy, and is cut off for a while.
    async fn cut_off(&mut self, kafka: &Kafka, time: Duration) {
        let Ok(proxy) = kafka.proxy().await else { return self.joins() };
        self.born += 1;
        let name = format!("member-{}", self.born);
        let member = self.scene.member_with(&name, |role| role.brokers = proxy.brokers()).unwrap();
        self.scene.produce_until_done_by(&name, 1).await;
        member.record(Fault::Cut).unwrap();
        proxy.refuse();
        proxy.cut();
        tokio::time::sleep(time).await;
        proxy.pass();
        member.record(Fault::Mended).unwrap();
        self.members.push(member);
        self.proxies.push(proxy);
    }
}
