//! Claims on members without a partition, and on records that nobody can handle.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kafka_group::header;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::sleep;
use turnstile_testkit::history::{Event, Place, Rule, What};
use turnstile_testkit::unique;

use super::killed::claim;
use super::orders::{Join, Order, Standing};
use super::{PACE, SESSION, close, come, join, name, spread, stand};
use crate::lab::breaks::Break;
use crate::lab::figures::Figure;
use crate::lab::findings::Check;
use crate::lab::kafka::{PATIENCE, Pace, Scene, Trial, client, pictures};
use crate::lab::words::{count, millis};

const PARTITIONS: i32 = 2;
const PACED: Pace = Pace { per_second: PACE.per_second / 4, poison: Some(25), ..PACE };
/// The longest that a take-over is waited for: far less than the session that is far too long.
const TAKEOVER: Duration = SESSION.saturating_mul(20);
const TOO_LONG_MS: u64 = 120_000;

/// Three members on two partitions; one that works is killed.
pub async fn run(trial: &Trial<'_>, figures: &mut Vec<Figure>) -> Result<[Check; 2]> {
    let part = trial.lab.time.max(Duration::from_secs(2)) / 4;
    trial.phase("three members on 2 partitions, with poison records: one that works is killed");
    let scene = trial.scene("idle", PARTITIONS).await?;
    let dead_letters = unique("dead-letters");
    trial.server.topic(&dead_letters, 1).await?;
    let mut workers = scene.workers(3).await?;
    let observer = scene.observer()?;
    for (number, worker) in (0..).zip(&mut workers) {
        let mut join = Join {
            dead_letters: Some(dead_letters.clone()),
            swallow: trial.breaks(Break::Poison),
            ..join(&scene, number, None)
        };
        if trial.breaks(Break::Session) {
            join.session_ms = TOO_LONG_MS;
        }
        worker.ask::<()>(&Order::Join(join)).await?;
    }
    let sole = |all: &[Standing]| all.iter().filter(|one| one.idle).count() == 1;
    let settled = come(&mut workers, PATIENCE, |all| sole(all) && spread(PARTITIONS, 0)(all)).await?;
    ensure!(settled.is_some(), "of three members on two partitions none says that it is idle within {PATIENCE:?}");
    let producer = scene.producer(PACED)?;
    sleep(part).await;
    // Looked at right before the kill: on a busy machine members miss their sessions, and another one may be idle by now.
    let at_work =
        |all: &[Standing]| sole(all) && all.iter().all(|one| one.idle || (one.partitions == 1 && one.handled > 0));
    let Some(standing) = come(&mut workers, PATIENCE, at_work).await? else {
        bail!("two of three members are not at work within {PATIENCE:?}: {:?}", stand(&mut workers).await?);
    };
    let idle = standing.iter().position(|one| one.idle).context("none is idle")?;
    let victim = (idle + 1) % 3;
    let (idle_who, victim_who) = (name(u32::try_from(idle)?), name(u32::try_from(victim)?));
    let killed = scene.kill(&mut workers[victim], &victim_who).await?;
    workers.remove(victim);
    let (idle, before) = (idle - usize::from(idle > victim), standing[idle].handled);
    come(&mut workers, TAKEOVER, |all| all[idle].handled > before && spread(PARTITIONS, 1)(all)).await?;
    sleep(part).await;
    let produced = producer.end()?;
    scene.settled(&observer, &produced.ends).await?;
    let in_topic = read_back(trial, &scene, &dead_letters).await?;
    let verdict = close(&scene, &mut workers).await?;

    let events = scene.history.events()?;
    figures.push(pictures::owners("An idle member takes over", &events, pictures::kills(&events)));
    let begun = |event: &&Event| *event.who == *idle_who && matches!(event.what, What::Started { .. });
    let first = events.iter().filter(begun).find(|event| event.at > killed);
    let seen = first.map_or_else(
        || "it took nothing over".to_owned(),
        |first| format!("it took over in {}", millis(Duration::from_nanos(first.at - killed))),
    );
    let idle = Check::new(
        "a member without a partition says that it is idle, and takes over when one is free",
        first.is_some(),
        format!("1 of 3 members idle on 2 partitions; {seen}, session time limit {}", millis(SESSION)),
    );
    let mut poison = claim(
        &verdict,
        "a record that nobody can handle goes to the dead letters, and its partition goes on",
        &[Rule::NoLoss, Rule::InOrder],
        format!(
            "{} poison records of {}, {} in the dead letters with where they came from, {} others done",
            count(produced.poison),
            count(produced.records),
            count(in_topic),
            count(verdict.done)
        ),
    );
    poison.held &= produced.poison > 0
        && verdict.dead_letters == produced.poison
        && verdict.done == produced.records - produced.poison;
    Ok([idle, poison])
}

/// Reads all dead letters, and writes down where each came from. The answer is how many records those are.
async fn read_back(trial: &Trial<'_>, scene: &Scene, topic: &str) -> Result<u64> {
    let end = trial.server.end_offsets(topic).await?.first().copied().unwrap_or(0);
    let recorder = scene.history.recorder("dead-letters")?;
    let consumer: BaseConsumer = client(&scene.brokers).set("group.id", unique("reader")).create()?;
    let topic = topic.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Beginning)?;
        consumer.assign(&list)?;
        let (mut next, mut places) = (0, HashSet::new());
        let until = Instant::now() + PATIENCE;
        while next < end {
            ensure!(Instant::now() < until, "the dead letters could not be read within {PATIENCE:?}");
            let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
            let message = message?;
            next = message.offset() + 1;
            let headers = message.headers().context("a dead letter has no headers")?;
            let text = |name: &str| {
                let header = headers.iter().find(|header| header.key == name).and_then(|header| header.value);
                let text = header.and_then(|value| std::str::from_utf8(value).ok());
                text.with_context(|| format!("a dead letter does not have {name}"))
            };
            let (partition, offset) = (text(header::PARTITION)?.parse()?, text(header::OFFSET)?.parse()?);
            let place = Place::new(text(header::TOPIC)?, partition, offset);
            recorder.record(&What::DeadLettered { place: place.clone() })?;
            places.insert(place);
        }
        Ok(places.len() as u64)
    })
    .await?
}
