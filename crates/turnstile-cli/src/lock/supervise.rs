//! From the start of the command to its end, under the watch over its lease.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use redis_lock::Lease;
use tokio::time::sleep;

use super::child::Group;
use super::jobs::Jobs;
use super::plan::Timing;
use super::signals::Signals;
use super::watch::{Loss, Order, Watch};
use crate::cli::OnLost;
use crate::events::{Event, Reporter};

/// How often it is looked whether the last of a group has ended: the system gives no sign.
const LOOK: Duration = Duration::from_millis(10);

/// How the command ended, and why it had to, if so.
pub struct Ended {
    pub status: ExitStatus,
    pub loss: Option<Loss>,
}

/// Waits for the command to end, passes signals on to it, and ends it when its lease does.
pub async fn supervise(
    mut group: Group<'_>,
    mut jobs: Jobs,
    lease: &Lease,
    timing: Timing,
    signals: &mut Signals,
    say: &Reporter,
) -> io::Result<Ended> {
    jobs.begin(&group);
    let mut watch = Watch::new(lease, timing);
    let mut loss = None;
    let status = loop {
        tokio::select! {
            biased;
            order = watch.order() => {
                obey(order, &group);
                if loss.replace(order.loss()).is_none() {
                    say.tell(&Event::Lost { reason: order.loss().reason(), action: action(order) });
                }
            }
            status = group.wait() => break status?,
            signal = signals.next() => group.signal(signal),
            happened = jobs.next() => jobs.handle(happened, &group, &watch).await,
        }
    };
    jobs.finish();
    if loss.is_some() {
        // The command is gone; what it started has until KILL.
        tokio::select! {
            () = watch.until_kill() => {}
            () = until_gone(&group) => {}
        }
        if timing.on_lost != OnLost::Ignore && group.is_alive() {
            group.signal(Signal::SIGKILL);
        }
    }
    let loss = loss.or_else(|| watch.lost_by_now());
    Ok(Ended { status, loss })
}

fn obey(order: Order, group: &Group<'_>) {
    match order {
        Order::Term(_) => {
            group.signal(Signal::SIGTERM);
            // One that is stopped would not see it otherwise.
            group.signal(Signal::SIGCONT);
        }
        Order::Kill(_) => group.signal(Signal::SIGKILL),
        Order::Tell(_) => {}
    }
}

fn action(order: Order) -> &'static str {
    match order {
        Order::Term(_) => "the command is told to end",
        Order::Kill(_) => "the command is killed",
        Order::Tell(_) => "the command runs on",
    }
}

async fn until_gone(group: &Group<'_>) {
    while group.is_alive() {
        sleep(LOOK).await;
    }
}
