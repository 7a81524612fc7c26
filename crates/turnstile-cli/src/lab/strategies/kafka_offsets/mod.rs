//! kafka-offsets in the lab: the account itself is measured; what it keeps beside a commit is put to the test on a Kafka.

mod marks;
mod orders;
mod soak;
mod worker;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use async_trait::async_trait;
use kafka_offsets::Completions;
use kafka_offsets::metadata::{DEFAULT_LIMIT, encode};
use rdkafka::consumer::BaseConsumer;

use self::orders::{Did, Fault, Order};
use super::Strategy;
use crate::lab::Lab;
use crate::lab::breaks::Break;
use crate::lab::crew::WorkerArgs;
use crate::lab::findings::{About, Check, Findings};
use crate::lab::kafka::{Scene, Trial, client};
use crate::lab::metrics::Metrics;
use crate::lab::post::Post;
use crate::lab::soak::{Round, Soaked};
use crate::lab::words::count;

/// How many records the topic has.
const RECORDS: i64 = 5000;
/// Each so many records one is not done.
const OPEN: i64 = 7;
/// When it is committed what was done.
const COMMIT_AT: i64 = 4500;
/// Far too few bytes to tell all.
const LITTLE: usize = 120;

/// The strategy.
pub struct KafkaOffsets;

#[async_trait]
impl Strategy for KafkaOffsets {
    fn name(&self) -> &'static str {
        "kafka-offsets"
    }

    fn about(&self) -> About {
        About {
            complexity: "a Kafka consumer of your own; offsets that are told as fetched and as done",
            guarantees: "the commit point never passes what is not done; what is done beyond it survives in the metadata",
            limits: "the metadata's bytes; what has no room there is done again",
            guards: &[Break::Codec, Break::Tail, Break::MadeFor],
        }
    }

    async fn run(&self, lab: &Lab) -> Result<Findings> {
        let trial = Trial::start(lab, self.name()).await?;
        trial.phase("marking offsets, and writing them down");
        let marks = tokio::task::spawn_blocking(marks::measure).await??;
        let checks = vec![survives(&trial).await?, cut(&trial).await?, of_others(&trial).await?];
        Ok(Findings::of(self, Metrics::Marks(marks), checks, Vec::new()))
    }

    async fn soak(&self, round: &Round<'_>) -> Result<Soaked> {
        soak::run(round).await
    }

    async fn work(&self, args: WorkerArgs, post: Post) -> Result<()> {
        worker::work(args, post).await
    }
}

async fn scene(trial: &Trial<'_>, name: &str) -> Result<Scene> {
    let scene = trial.scene(name, 1).await?;
    trial.server.produce(&scene.topic, Some(0), (0..RECORDS).map(|_| ("key", "value"))).await?;
    Ok(scene)
}

/// One works, commits with at most so many bytes of metadata, works on and is killed; another takes over.
async fn killed(scene: &Scene, limit: usize, fault: Option<Fault>) -> Result<(Did, Did)> {
    let (topic, group) = (scene.topic.clone(), scene.group.clone());
    let mut first = scene.worker(0).await?;
    let begin = Order::Begin { topic: topic.clone(), group: group.clone(), open: OPEN, commit_at: COMMIT_AT, limit };
    let before: Did = first.ask(&begin).await?;
    first.child().kill()?;
    first.child().wait().await?;
    let after = scene.worker(1).await?.ask(&Order::Resume { topic, group, fault }).await?;
    ensure!(!before.told.is_empty() && before.told.len() < RECORDS as usize, "nothing was done out of order");
    Ok((before, after))
}

/// What was told by the commit and done again, what was done since and again, and what nobody did.
fn compare(before: &Did, after: &Did) -> (usize, usize, usize) {
    let again: BTreeSet<_> = after.untold.iter().collect();
    let repeated = |offsets: &[i64]| offsets.iter().filter(|offset| again.contains(offset)).count();
    let done: BTreeSet<_> = before.told.iter().chain(&before.untold).chain(&after.untold).collect();
    (repeated(&before.told), repeated(&before.untold), RECORDS as usize - done.len())
}

async fn survives(trial: &Trial<'_>) -> Result<Check> {
    trial.phase("a worker that did much beyond the commit point is killed");
    let fault = trial.breaks(Break::Codec).then_some(Fault::Blind);
    let (before, after) = killed(&scene(trial, "crash").await?, DEFAULT_LIMIT, fault).await?;
    let (repeated, since, missing) = compare(&before, &after);
    Ok(Check::new(
        "what is done beyond the commit point survives a crash, and nothing is missed",
        repeated == 0 && missing == 0 && since == before.untold.len(),
        format!(
            "{} done beyond the commit point, told in {} bytes: {} repeated; {} done since the commit: {} repeated; {} missed",
            count(before.told.len() as u64),
            count(before.metadata as u64),
            count(repeated as u64),
            count(before.untold.len() as u64),
            count(since as u64),
            count(missing as u64)
        ),
    ))
}

async fn cut(trial: &Trial<'_>) -> Result<Check> {
    trial.phase("the same with metadata that has no room");
    let fault = trial.breaks(Break::Tail).then_some(Fault::TailIsDone);
    let (before, after) = killed(&scene(trial, "cut").await?, LITTLE, fault).await?;
    let (repeated, _, missing) = compare(&before, &after);
    let kept = before.told.len() - repeated;
    Ok(Check::new(
        "metadata without room for all repeats what it could not tell, and misses nothing",
        missing == 0 && before.metadata <= LITTLE && kept > 0,
        format!(
            "{} done beyond the commit point, {} bytes: {} told, {} repeated, {} missed",
            count(before.told.len() as u64),
            count(before.metadata as u64),
            count(kept as u64),
            count(repeated as u64),
            count(missing as u64)
        ),
    ))
}

async fn of_others(trial: &Trial<'_>) -> Result<Check> {
    trial.phase("a worker finds metadata that is not for it");
    let fault = trial.breaks(Break::MadeFor).then_some(Fault::AnyOffset);
    let committed = 100;
    let scene = scene(trial, "foreign").await?;
    let ours =
        |offset| encode(&Completions::new(offset, std::iter::once(offset + 20..offset + 900)), DEFAULT_LIMIT).text;
    let mut damaged = ours(committed);
    damaged.truncate(damaged.len() - 3);
    let texts = ["somebody else's".to_owned(), "ko9?".to_owned(), damaged, ours(committed + 50), ours(committed - 50)];
    let mut worker = scene.worker(0).await?;
    let (mut ignored, mut missed) = (0, 0);
    for (number, text) in texts.iter().enumerate() {
        let group = format!("{}-{number}", scene.group);
        let (brokers, topic, for_commit, text) =
            (scene.brokers.clone(), scene.topic.clone(), group.clone(), text.clone());
        let commit = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = client(&brokers).set("group.id", &for_commit).create()?;
            worker::commit(&consumer, &topic, committed, &text)
        });
        commit.await??;
        let did: Did = worker.ask(&Order::Resume { topic: scene.topic.clone(), group, fault }).await?;
        ignored += u32::from(did.ignored.is_some());
        missed += (RECORDS - committed) as usize - did.untold.len();
    }
    Ok(Check::new(
        "metadata that is foreign, newer, damaged or of another commit is ignored, and nothing is missed",
        missed == 0 && ignored as usize == texts.len(),
        format!("{} such texts: {ignored} ignored, {} records missed", texts.len(), count(missed as u64)),
    ))
}
