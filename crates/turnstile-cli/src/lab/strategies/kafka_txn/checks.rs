//! What is read as committed is compared with f of what was produced, after copiers have died.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_txn::{Isolation, ReadRecord, Reader};
use rand::RngExt;

use super::{Guards, Order, Standing, come, scene};
use crate::lab::breaks::Break;
use crate::lab::clock;
use crate::lab::figures::{Bar, Figure, Lanes, Mark};
use crate::lab::findings::Check;
use crate::lab::kafka::{Pace, Scene, Trial, client, pictures};
use crate::lab::metrics::Copies;
use crate::lab::words::count;

const PACE: Pace = Pace { per_second: 1000, poison: None, recorded: false };
/// How many die.
const DEATHS: u32 = 5;

/// One copier lives, and beside it one after another dies, each at another step of a transaction.
pub async fn run(trial: &Trial<'_>, copies: &mut Copies) -> Result<(Vec<Check>, Vec<Figure>)> {
    trial.phase(&format!("two copiers on {} partitions, {DEATHS} die one after another", super::PARTITIONS));
    let (scene, mut job) = scene(trial, "deaths").await?;
    job.every = Duration::from_millis(50);
    if trial.breaks(Break::Transaction) {
        job.guards = Guards::NoTransaction;
    }
    if trial.breaks(Break::KeyOrder) {
        job.guards = Guards::NoOrder;
    }
    let observer = scene.observer()?;
    let (begun, mut lives) = (clock::now(), Vec::new());
    let mut living = vec![scene.worker(0).await?];
    living[0].ask::<()>(&Order::Copy(job.clone())).await?;
    let producer = scene.producer(PACE)?;
    come(&mut living, "the first record", |all| all[0].handled > 0).await?;
    for death in 0..DEATHS {
        let mut victim = scene.worker(1 + death).await?;
        let (from, dies) = (clock::now(), Some((death % 5, rand::rng().random_range(1..4))));
        victim.ask::<()>(&Order::Copy(super::Job { dies, ..job.clone() })).await?;
        let died = tokio::time::timeout(Duration::from_secs(60), victim.child().wait()).await;
        ensure!(!died.context("a copier does not die")??.success(), "a copier ended by itself");
        lives.push((from, clock::now()));
    }
    let produced = producer.end()?;
    scene.settled(&observer, &produced.ends).await?;
    living[0].ask::<Standing>(&Order::Leave).await?;
    lives.insert(0, (begun, clock::now()));
    drop(observer);
    let drawn = draw(&scene, &lives)?;

    let isolation = if trial.breaks(Break::Isolation) { Isolation::Everything } else { Isolation::Committed };
    let everything = read(&scene, &job.to, Isolation::Everything).await?;
    let seen = read(&scene, &job.to, isolation).await?;
    let judged = judge(&seen, &produced.ends)?;
    let aborted = everything.len().saturating_sub(read(&scene, &job.to, Isolation::Committed).await?.len());
    copies.deaths = u64::from(DEATHS);
    copies.aborted_outputs = aborted as u64;
    let Judged { right, missing, twice, foreign, out_of_order } = judged;
    let records = count(produced.records);
    let (of_them, again) = (count(right), count(twice));
    let checks = vec![
        Check::new(
            "what is read as committed is f of the input, each once, whoever dies and where",
            missing == 0 && twice == 0 && foreign == 0,
            format!("{records} records, {of_them} copied, {missing} missing, {again} twice, {foreign} from nowhere"),
        ),
        Check::new(
            "what was aborted is never read as committed",
            everything.len() - seen.len() == aborted && (aborted > 0 || job.guards == Guards::NoTransaction),
            format!("{} of {} outputs were aborted", count(aborted as u64), count(everything.len() as u64)),
        ),
        Check::new(
            "outputs of a key are in the order of its input",
            out_of_order == 0,
            format!("{of_them} outputs, {out_of_order} out of order"),
        ),
    ];
    Ok((checks, drawn))
}

/// Which copier lived when, the first to the end, and how many records were committed meanwhile.
fn draw(scene: &Scene, lives: &[(u64, u64)]) -> Result<Vec<Figure>> {
    let marks: Vec<_> = lives.iter().skip(1).map(|(_, died)| Mark::new(*died, "dies")).collect();
    let bars = lives.iter().enumerate().map(|(row, (from, to))| Bar { row, colour: row, from: *from, to: *to });
    let lanes = Lanes {
        title: format!("Copiers: one lives, {DEATHS} die in the middle of a transaction"),
        note: "A bar is a process, from its start to its end.".to_owned(),
        rows: (0..lives.len()).map(|number| format!("copier {number}")).collect(),
        bars: bars.collect(),
        marks: marks.clone(),
        ..Lanes::default()
    };
    let committed = pictures::committed("Commits meanwhile, at a steady pace", &scene.history.events()?, marks);
    Ok(vec![Figure::Lanes(lanes), committed])
}

pub struct Judged {
    pub right: u64,
    pub missing: u64,
    pub twice: u64,
    pub foreign: u64,
    pub out_of_order: u64,
}

pub fn judge(seen: &[ReadRecord], ends: &BTreeMap<i32, i64>) -> Result<Judged> {
    let mut there = HashSet::new();
    let mut last: HashMap<(i32, &[u8]), i64> = HashMap::new();
    let (mut twice, mut foreign, mut out_of_order) = (0, 0, 0);
    for record in seen {
        let text = std::str::from_utf8(record.value.as_deref().unwrap_or_default())?;
        let mut parts = text.split(' ').map(str::parse::<i64>);
        let mut part = || parts.next().context("not a copy")?.context("not a copy");
        let (partition, offset) = (i32::try_from(part()?)?, part()?);
        if ends.get(&partition).is_none_or(|end| offset >= *end) {
            foreign += 1;
        }
        if !there.insert((partition, offset)) {
            twice += 1;
            continue;
        }
        // A key's records are in order within their partition.
        let key = (partition, record.key.as_deref().unwrap_or_default());
        if last.insert(key, offset).is_some_and(|before| before > offset) {
            out_of_order += 1;
        }
    }
    let produced: i64 = ends.values().sum();
    let right = there.len() as u64;
    Ok(Judged { right, missing: u64::try_from(produced)?.saturating_sub(right), twice, foreign, out_of_order })
}

pub async fn read(scene: &Scene, topic: &str, isolation: Isolation) -> Result<Vec<ReadRecord>> {
    let (connection, topic) = (client(&scene.brokers), topic.to_owned());
    let read = move || Reader::open(connection, &topic, isolation, Duration::from_secs(30))?.collect::<Result<_, _>>();
    Ok(tokio::task::spawn_blocking(read).await??)
}
