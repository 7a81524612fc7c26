//! More partitions, or fewer: a plan, or the change itself.

use std::fmt::Write;

use kafka_partitions::{Change, ChangeError, Cluster, Layout, Overload, Plan, Step};
use serde::Serialize;

use super::{GrowArgs, HowArgs, MoveArgs, print};
use crate::exit::{self, Failure};
use crate::lock::printable;

/// What `--json` prints. Fields may be added; `schema` rises when one changes its meaning.
#[derive(Serialize)]
struct Answer {
    schema: u32,
    plan: Plan,
    /// Whether it was carried out; without `--execute` it is only planned.
    executed: bool,
    /// The layout that records go by now, if it was.
    layout: Option<Layout>,
}

pub async fn grow(cluster: &Cluster, args: &GrowArgs, json: bool) -> Result<u8, Failure> {
    change(cluster, Change::grow(&args.topic, args.to), &args.how, json).await
}

/// To a topic whose name follows from the layout's number, unless there is another.
pub async fn shrink(cluster: &Cluster, args: &MoveArgs, json: bool) -> Result<u8, Failure> {
    let layouts = cluster.layouts(&args.topic).await?;
    let now = match layouts.current() {
        Some(layout) => layout.partitions,
        None => cluster.topic(&args.topic).await?.count(),
    };
    if args.to >= now {
        let message = format!("{} has {now} partitions: to shrink, ask for fewer; for more there is grow", args.topic);
        return Err(Failure::new(exit::CONFIG, printable(&message)));
    }
    relocate(cluster, args, json).await
}

pub async fn relocate(cluster: &Cluster, args: &MoveArgs, json: bool) -> Result<u8, Failure> {
    let into = match &args.into {
        Some(into) => into.clone(),
        None => {
            let layouts = cluster.layouts(&args.topic).await?;
            let epoch = layouts.current().map_or(1, |layout| layout.epoch) + 1;
            layouts.pending().map_or_else(|| format!("{}.{epoch}", args.topic), |pending| pending.topic.clone())
        }
    };
    change(cluster, Change::into_topic(&args.topic, into, args.to), &args.how, json).await
}

pub async fn withdraw(cluster: &Cluster, topic: &str, json: bool) -> Result<u8, Failure> {
    let withdrawn = cluster.withdraw(topic).await?;
    print(json, &withdrawn, || match &withdrawn {
        Some(layout) => format!("withdrawn: records go on where they went, not into {}", printable(&layout.topic)),
        None => "no change is under way".to_owned(),
    });
    Ok(0)
}

async fn change(cluster: &Cluster, change: Change, how: &HowArgs, json: bool) -> Result<u8, Failure> {
    let change = change.limits(how.limits.limits()).force(how.force).partitioner(how.partitioner);
    let plan = cluster.plan(change).await?;
    let layout = if how.execute {
        let on_step = move |step| {
            if !json {
                eprintln!("turnstile: {}", done(step));
            }
        };
        Some(cluster.carry_out(plan.clone(), on_step).await?)
    } else {
        None
    };
    let answer = Answer { schema: 1, executed: how.execute, plan, layout };
    print(json, &answer, || words(&answer));
    Ok(0)
}

fn done(step: Step) -> &'static str {
    match step {
        Step::Planned => "the next layout is in the log",
        Step::Prepared => "the partitions are there; nothing goes into them yet",
        Step::CarriedOver => "the groups begin at the beginning of the new topic",
        Step::Closed => "the old layout is closed: writers wait",
        Step::Fenced => "every writer is fenced",
        Step::Switched => "the new layout is open: writers go on",
        _ => "a step is done",
    }
}

fn words(answer: &Answer) -> String {
    let Plan { topic, from, to, resumes, writers, groups, bearing, .. } = &answer.plan;
    let mut text = format!(
        "{}: from {} partitions of {} to {} of {}\n",
        printable(topic),
        from.partitions,
        printable(&from.topic),
        to.partitions,
        printable(&to.topic)
    );
    if answer.executed {
        text.push_str(
            "done: readers that follow the layouts go on by themselves, each group once it has worked off the old one",
        );
        return text;
    }
    if *resumes {
        text.push_str("this change was begun before, and would be taken up\n");
    }
    let _ = match bearing {
        Some(bearing) => writeln!(
            text,
            "the brokers ({}) bear it: broker {} would keep {} replicas in place of {}",
            bearing.brokers, bearing.fullest, bearing.after, bearing.before
        ),
        None => writeln!(text, "it is more than the brokers should bear, and forced"),
    };
    let _ = writeln!(
        text,
        "it would fence {} writers that are entered; each does its open transaction again",
        writers.len()
    );
    if to.topic != from.topic {
        let all = groups.iter().map(|group| printable(group)).collect::<Vec<_>>().join(", ");
        let all = if all.is_empty() { "none".to_owned() } else { all };
        let _ = writeln!(text, "groups that would go on in the new topic: {all}");
        text.push_str("the old topic stays with what is in it, until you delete it\n");
    }
    text.push_str("only writers and readers that follow the layouts keep the order; --execute carries it out");
    text
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        let code = match error {
            ChangeError::Topic(error) => return error.into(),
            ChangeError::Count { .. } | ChangeError::Exists(_) => exit::CONFIG,
            ChangeError::Overload(Overload { .. }) | ChangeError::UnderWay { .. } | ChangeError::TakenOver(_) => {
                exit::NOT_ACQUIRED
            }
            _ => exit::SOFTWARE,
        };
        Self::new(code, printable(&error.to_string()))
    }
}
