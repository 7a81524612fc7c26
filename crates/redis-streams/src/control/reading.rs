//! New jobs: one read at a time, on a connection that waits on the server, sent when there is room.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis_lua::redis::cmd;
use redis_lua::{Client, Dedicated, Error};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use turnstile_core::Handler;

use super::{Control, millis};
use crate::desk::{Desk, Term};
use crate::error::RunError;
use crate::job::{Job, Jobs, Read};
use crate::runner;
use crate::scripts::FETCH;
use crate::worker::Order;

/// How long a read waits on the server for a job.
pub(super) const BLOCK: Duration = Duration::from_secs(5);
/// On a cluster, where no other connection can end the wait.
const BLOCK_ON_CLUSTER: Duration = Duration::from_secs(1);
/// Jobs are read ahead as far as they are begun within this time.
const AHEAD: Duration = Duration::from_millis(10);
/// The most jobs that are worked on and not written down, or halted.
const MOST_UNWRITTEN: usize = 20_000;
/// A wait that is to end is ended again after this, in case it had not begun.
const AGAIN: Duration = Duration::from_millis(10);

pub(super) type Reading = BoxFuture<'static, (Option<Dedicated>, Result<Vec<Job>, Error>)>;

/// How many jobs are worked on in the time for which it is worth reading ahead.
pub(super) struct Rate {
    pub since: Instant,
    pub worked: u64,
    pub ahead: usize,
}

impl Rate {
    pub(super) fn ahead(&mut self, worked: u64, most: usize) -> usize {
        let elapsed = self.since.elapsed();
        if elapsed >= AHEAD {
            let jobs = u128::from(worked - self.worked) * AHEAD.as_micros() / elapsed.as_micros().max(1);
            // Where they take longer than that, each read ahead would wait for another's end.
            self.ahead = usize::try_from(jobs).unwrap_or(usize::MAX).min(most);
            (self.since, self.worked) = (Instant::now(), worked);
        }
        self.ahead
    }
}

impl<H: Handler<Job>> Control<H> {
    /// Begins to read, if there is room and nothing is being read.
    pub(super) fn read(&mut self) {
        if self.reading.is_some() {
            return;
        }
        let desk = self.desk.clone();
        let (count, term) = {
            let mut state = desk.state();
            let ahead = self.rate.ahead(state.worked, desk.settings.batch * 8);
            let (room, least) = (desk.room(&state, ahead), (ahead / 2).max(1));
            if room < least || state.to_settle.len() + state.halted.len() > MOST_UNWRITTEN {
                state.wanted_room = Some((ahead, least));
                return;
            }
            if state.lost_reply {
                state.lost_reply = false;
                self.recover_until = Some(Instant::now() + BLOCK + desk.client.response_timeout() * 2);
                if self.beat_failed.delays.is_none() {
                    self.beat = Instant::now();
                }
                return;
            }
            (room.min(desk.settings.batch), state.term.clone())
        };
        let connection = self.connection.take();
        let waits = self.waits.clone();
        let delay = self.read_failed.delays.is_some().then(|| self.read_failed.next());
        let enough = self.enough.clone();
        self.reading = Some(
            async move {
                if let Some(delay) = delay {
                    sleep(delay).await;
                }
                let mut connection = match connection {
                    Some(connection) => connection,
                    None => match connect(&desk.client, &waits).await {
                        Ok(connection) => connection,
                        Err(error) => return (None, Err(error)),
                    },
                };
                let read = match desk.settings.order {
                    Order::None => read_any(&desk, &term, &mut connection, count).await,
                    _ => read_in_order(&desk, &term, &mut connection, count, &enough).await,
                };
                match read {
                    Ok(jobs) => (Some(connection), Ok(jobs)),
                    Err(error) => (None, Err(error)),
                }
            }
            .boxed(),
        );
    }

    pub(super) fn have_read(
        &mut self,
        connection: Option<Dedicated>,
        result: Result<Vec<Job>, Error>,
    ) -> Result<(), RunError> {
        self.reading = None;
        self.connection = connection;
        match result {
            Ok(jobs) => {
                self.read_failed.reset();
                if !jobs.is_empty() {
                    self.desk.receive(&self.desk.term(), jobs);
                    runner::kick(&self.desk);
                }
                Ok(())
            }
            Err(error) => self.failed(error, "nothing can be read for now"),
        }
    }

    /// Ends a read that waits, and gives what it brought to the desk.
    pub(super) async fn end_read(&mut self) -> Result<(), RunError> {
        let Some(reading) = self.reading.take() else { return Ok(()) };
        self.enough.cancel();
        let desk = self.desk.clone();
        let waits = self.waits.clone();
        let end_wait = async {
            loop {
                let id = waits.load(Ordering::Acquire);
                if id != 0
                    && let Err(error) = desk.client.run::<bool>(cmd("CLIENT").arg("UNBLOCK").arg(id)).await
                {
                    debug!(queue = %desk.group.queue, %error, "the wait cannot be ended, so it is left");
                    std::future::pending::<()>().await;
                }
                sleep(AGAIN).await;
            }
        };
        let patience = desk.client.response_timeout() + Duration::from_secs(u64::from(desk.client.is_cluster()));
        let result = tokio::select! {
            result = timeout(patience, reading) => result,
            () = end_wait => return Ok(()),
        };
        self.enough = CancellationToken::new();
        self._enough = self.enough.clone().drop_guard();
        match result {
            Ok((connection, result)) => self.have_read(connection, result),
            Err(_) => {
                self.desk.state().lost_reply = true;
                Ok(())
            }
        }
    }
}

async fn connect(client: &Client, waits: &AtomicU64) -> Result<Dedicated, Error> {
    let mut connection = client.dedicated(Some(BLOCK + client.response_timeout())).await?;
    // On a cluster a connection is many; where rights forbid it, the wait is simply left.
    let id = match client.is_cluster() {
        true => 0,
        false => connection.run(cmd("CLIENT").arg("ID")).await.unwrap_or_default(),
    };
    waits.store(id, Ordering::Release);
    Ok(connection)
}

fn block(client: &Client) -> u64 {
    millis(if client.is_cluster() { BLOCK_ON_CLUSTER } else { BLOCK })
}

async fn read_any<H>(desk: &Desk<H>, term: &Term, connection: &mut Dedicated, count: usize) -> Result<Vec<Job>, Error> {
    let mut read = cmd("XREADGROUP");
    read.arg("GROUP").arg(&*desk.group.name).arg(&*term.consumer).arg("COUNT").arg(count);
    read.arg("BLOCK").arg(block(&desk.client)).arg("STREAMS").arg(desk.group.queue.as_key()).arg(">");
    connection.run::<Read>(&read).await.map(|read| read.0)
}

async fn read_in_order<H>(
    desk: &Desk<H>,
    term: &Term,
    connection: &mut Dedicated,
    count: usize,
    enough: &CancellationToken,
) -> Result<Vec<Job>, Error> {
    let order = desk.settings.order.word();
    loop {
        let call = desk.group.call(&FETCH, &term.consumer, order, std::iter::empty());
        let (status, last, jobs): (i64, String, Jobs) =
            call.arg(count).arg(desk.settings.lanes).run(&desk.client).await?;
        if status == 0 {
            desk.state().fenced = true;
            return Ok(Vec::new());
        }
        if !jobs.0.is_empty() || enough.is_cancelled() {
            return Ok(jobs.0);
        }
        // All that was read waits in lanes; or these are full, and something has to be done first.
        if status == 2 {
            tokio::select! {
                () = sleep(Duration::from_millis(20)) => continue,
                () = enough.cancelled() => return Ok(Vec::new()),
            }
        }
        let mut wait = cmd("XREAD");
        wait.arg("COUNT")
            .arg(1)
            .arg("BLOCK")
            .arg(block(&desk.client))
            .arg("STREAMS")
            .arg(desk.group.queue.as_key())
            .arg(last);
        connection.run::<redis_lua::redis::Value>(&wait).await?;
        if enough.is_cancelled() {
            return Ok(Vec::new());
        }
    }
}
