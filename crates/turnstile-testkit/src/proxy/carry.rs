//! Carrying the bytes: one task a connection, and in it for each direction a reader, a queue and a writer, so that a
//! delay delays each chunk by itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::{Faults, Lane, Shared};

const CHUNK: usize = 16 * 1024;
/// How many chunks may be on their way in one direction before its sender has to wait.
const IN_FLIGHT: usize = 256;

const TO_SERVER: usize = 0;
const TO_CLIENT: usize = 1;

/// How a connection ended.
enum End {
    /// Both sides closed it in order.
    Closed,
    /// One side broke it.
    Broken,
    /// All were cut.
    Cut,
    /// Its reply came and was thrown away.
    ReplyCut,
}

/// Accepts connections until the proxy is dropped.
pub(super) async fn serve(
    listener: TcpListener,
    server: (String, u16),
    mut faults: watch::Receiver<Faults>,
    shared: Arc<Shared>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = faults.wait_for(|_| false) => return, // Only an error ends it: the proxy is gone.
        };
        // An accept that fails is the client's loss alone.
        let Ok((client, _)) = accepted else { continue };
        let (faults, shared, server) = (faults.clone(), shared.clone(), server.clone());
        let (refuse, cuts) = (faults.borrow().refuse, faults.borrow().cuts);
        if refuse {
            reset(client);
            shared.count(|stats| stats.refused += 1);
        } else {
            tokio::spawn(connection(client, server, faults, cuts, shared));
        }
    }
}

async fn connection(
    mut client: TcpStream,
    server: (String, u16),
    faults: watch::Receiver<Faults>,
    cuts: u64,
    shared: Arc<Shared>,
) {
    let Ok(mut upstream) = TcpStream::connect(server).await else {
        reset(client);
        return shared.count(|stats| stats.unreachable += 1);
    };
    // Where this fails, small packets are slower, no more.
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    shared.count(|stats| {
        stats.connections += 1;
        stats.open += 1;
    });
    let end = carry(&mut client, &mut upstream, faults, cuts, &shared).await;
    match end {
        End::Closed | End::ReplyCut => drop(client),
        End::Broken | End::Cut => reset(client),
    }
    shared.count(|stats| {
        stats.open -= 1;
        stats.cut += u64::from(matches!(end, End::Cut));
        stats.replies_cut += u64::from(matches!(end, End::ReplyCut));
    });
    match end {
        // Closing with bytes unread would reset, and a reset may take the request from under the server.
        End::ReplyCut => {
            let _ = upstream.shutdown().await;
            let _ = copy(&mut upstream, &mut sink()).await;
        }
        End::Closed => drop(upstream),
        End::Broken | End::Cut => reset(upstream),
    }
}

/// Carries bytes both ways until the connection ends.
async fn carry(
    client: &mut TcpStream,
    upstream: &mut TcpStream,
    mut faults: watch::Receiver<Faults>,
    cuts: u64,
    shared: &Shared,
) -> End {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = upstream.split();
    let lost = AtomicBool::new(false); // This connection's next reply is to be thrown away.
    let (requests, replies) = (faults.clone(), faults.clone());
    let there = pump(from_client, to_server, requests, shared, TO_SERVER, |chunk| {
        if shared.fires(chunk) {
            lost.store(true, Ordering::Relaxed);
        }
        true
    });
    let back = pump(from_server, to_client, replies, shared, TO_CLIENT, |_| !lost.load(Ordering::Relaxed));
    tokio::select! {
        _ = faults.wait_for(|faults| faults.cuts != cuts) => End::Cut,
        done = async { tokio::try_join!(there, back) } => match done {
            Ok(_) => End::Closed,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => End::ReplyCut,
            Err(_) => End::Broken,
        }
    }
}

/// Carries bytes one way until their sender closes. `let_through` is asked before each chunk is delivered; its no ends
/// the connection.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    faults: watch::Receiver<Faults>,
    shared: &Shared,
    way: usize,
    let_through: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    let (queue, mut due) = mpsc::channel(IN_FLIGHT);
    let mut lanes = faults.clone();
    let read = async move {
        loop {
            let mut chunk = vec![0; CHUNK];
            let length = match from.read(&mut chunk).await {
                // Who is cut off does not hear that the other side broke the connection.
                Err(_) if faults.borrow().lanes[way] == Lane::Swallow => 0,
                read => read?,
            };
            chunk.truncate(length);
            let delay = faults.borrow().delays[way];
            // An empty chunk is the end, and waits its turn like any other.
            if queue.send((Instant::now() + delay, chunk)).await.is_err() || length == 0 {
                return Ok(());
            }
        }
    };
    let write = async {
        let mut dead = false;
        while let Some((at, chunk)) = due.recv().await {
            if at > Instant::now() {
                sleep_until(at).await;
            }
            let lane = lanes.wait_for(|faults| faults.lanes[way] != Lane::Hold).await.map(|faults| faults.lanes[way]);
            dead |= lane.map_err(io::Error::other)? == Lane::Swallow;
            let bytes = chunk.len() as u64;
            if dead {
                shared.count(|stats| {
                    let swallowed = [&mut stats.swallowed_to_server, &mut stats.swallowed_to_client];
                    *swallowed[way] += bytes;
                });
            } else if chunk.is_empty() {
                to.shutdown().await?;
            } else if let_through(&chunk) {
                to.write_all(&chunk).await?;
                shared.count(|stats| *[&mut stats.to_server, &mut stats.to_client][way] += bytes);
            } else {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        if dead { std::future::pending().await } else { Ok(()) }
    };
    tokio::try_join!(read, write).map(|_| ())
}

/// Closes with a reset, so that the peer sees an error and not an orderly end.
fn reset(stream: TcpStream) {
    // It fails only for a connection that is reset already.
    let _ = stream.set_zero_linger();
}
