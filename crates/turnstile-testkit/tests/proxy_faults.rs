//! Each fault of the proxy, on an echo server that also tells what it has read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use turnstile_testkit::proxy::{Direction, Proxy};

/// Long enough that what could come has come; only for what must not come.
const A_WHILE: Duration = Duration::from_millis(150);

/// An echo server, a proxy in front of it, and what the server reads.
async fn echo() -> (Proxy, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, read) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 65_536];
                while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                    let _ = sender.send(bytes[..length].to_vec());
                    if stream.write_all(&bytes[..length]).await.is_err() {
                        return;
                    }
                }
                let _ = sender.send(Vec::new());
            });
        }
    });
    (Proxy::start(("127.0.0.1".to_owned(), port)).await.unwrap(), read)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.addr()).await.unwrap()
}

async fn says(stream: &mut TcpStream, words: &str) {
    stream.write_all(words.as_bytes()).await.unwrap();
}

async fn hears(stream: &mut TcpStream, words: &str) {
    let mut heard = vec![0; words.len()];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&heard), words);
}

async fn hears_nothing(stream: &mut TcpStream) {
    let heard = timeout(A_WHILE, stream.read_u8()).await;
    assert!(heard.is_err(), "{heard:?}");
}

#[tokio::test]
async fn without_a_fault_all_bytes_pass_in_order_and_are_counted() {
    let (proxy, _read) = echo().await;
    let (mut from, mut to) = connect(&proxy).await.into_split();
    let sent: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let wanted = sent.clone();
    tokio::spawn(async move { to.write_all(&sent).await.map(|()| to) });
    let mut heard = vec![0; wanted.len()];
    from.read_exact(&mut heard).await.unwrap();
    assert!(heard == wanted);
    let stats = proxy.stats();
    assert_eq!((stats.connections, stats.to_server, stats.to_client), (1, 5_000_000, 5_000_000));
    assert_eq!((stats.swallowed_to_server, stats.swallowed_to_client, stats.cut, stats.refused), (0, 0, 0, 0));
}

#[tokio::test]
async fn an_orderly_end_is_passed_on_after_the_last_byte() {
    let (proxy, _read) = echo().await;
    let mut client = connect(&proxy).await;
    says(&mut client, "last words").await;
    client.shutdown().await.unwrap();
    let mut heard = String::new();
    client.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "last words");
    proxy.until(|stats| stats.open == 0).await.unwrap();
}

#[tokio::test]
async fn a_delay_holds_for_each_direction_and_keeps_the_order() {
    let (proxy, mut read) = echo().await;
    let mut client = connect(&proxy).await;
    for direction in [Direction::ToServer, Direction::ToClient] {
        proxy.pass();
        proxy.delay(direction, A_WHILE);
        let sent = Instant::now();
        says(&mut client, "one").await;
        assert_eq!(read.recv().await.unwrap(), b"one");
        assert!(direction == Direction::ToClient || sent.elapsed() >= A_WHILE);
        says(&mut client, "two").await;
        hears(&mut client, "onetwo").await;
        assert!(sent.elapsed() >= A_WHILE);
        assert_eq!(read.recv().await.unwrap(), b"two");
    }
}

#[tokio::test]
async fn held_bytes_are_delivered_late_and_whole() {
    let (proxy, mut read) = echo().await;
    let mut client = connect(&proxy).await;
    proxy.hold(Direction::ToServer);
    says(&mut client, "late").await;
    assert!(timeout(A_WHILE, read.recv()).await.is_err());
    proxy.pass();
    hears(&mut client, "late").await;

    proxy.hold(Direction::ToClient);
    says(&mut client, "done, and not heard of").await;
    assert_eq!((read.recv().await.unwrap(), read.recv().await.unwrap().len()), (b"late".to_vec(), 22));
    hears_nothing(&mut client).await;
    proxy.pass();
    hears(&mut client, "done, and not heard of").await;
}

#[tokio::test]
async fn swallowed_requests_never_reach_the_server_and_the_connection_stays_open() {
    let (proxy, mut read) = echo().await;
    let mut client = connect(&proxy).await;
    proxy.swallow(Direction::ToServer);
    says(&mut client, "lost").await;
    proxy.until(|stats| stats.swallowed_to_server == 4).await.unwrap();
    hears_nothing(&mut client).await;

    // TCP never delivers past a gap: what comes after lost bytes is lost too, until there is a new connection.
    proxy.pass();
    says(&mut client, "too late").await;
    proxy.until(|stats| stats.swallowed_to_server == 12).await.unwrap();
    let mut again = connect(&proxy).await;
    says(&mut again, "anew").await;
    hears(&mut again, "anew").await;
    assert_eq!(read.recv().await.unwrap(), b"anew");
}

#[tokio::test]
async fn swallowed_replies_leave_the_work_done() {
    let (proxy, mut read) = echo().await;
    let mut client = connect(&proxy).await;
    proxy.swallow(Direction::ToClient);
    says(&mut client, "do it").await;
    assert_eq!(read.recv().await.unwrap(), b"do it");
    proxy.until(|stats| stats.swallowed_to_client == 5).await.unwrap();
    hears_nothing(&mut client).await;
}

#[tokio::test]
async fn half_open_connections_are_accepted_and_neither_side_hears_of_the_other() {
    let (proxy, mut read) = echo().await;
    let mut old = connect(&proxy).await;
    says(&mut old, "hello").await;
    hears(&mut old, "hello").await;
    assert_eq!(read.recv().await.unwrap(), b"hello");

    proxy.half_open();
    let mut new = connect(&proxy).await;
    says(&mut new, "anybody?").await;
    proxy.until(|stats| stats.connections == 2 && stats.swallowed_to_server == 8).await.unwrap();
    drop(old);
    // Nor the end of a connection: the server would have sent an empty message.
    assert!(timeout(A_WHILE, read.recv()).await.is_err());
    hears_nothing(&mut new).await;
    proxy.cut();
    proxy.until(|stats| stats.open == 0 && stats.cut == 2).await.unwrap();
}

#[tokio::test]
async fn refused_connections_fail_and_are_counted_while_others_go_on() {
    let (proxy, _read) = echo().await;
    let mut old = connect(&proxy).await;
    says(&mut old, "a").await;
    hears(&mut old, "a").await;
    proxy.refuse();
    // The reset may come before the connect has returned, or after.
    if let Ok(mut new) = TcpStream::connect(proxy.addr()).await {
        new.read_u8().await.unwrap_err();
    }
    proxy.until(|stats| stats.refused == 1).await.unwrap();
    says(&mut old, "b").await;
    hears(&mut old, "b").await;
    proxy.pass();
    let mut new = connect(&proxy).await;
    says(&mut new, "c").await;
    hears(&mut new, "c").await;
}

#[tokio::test]
async fn a_cut_resets_all_open_connections_and_new_ones_pass() {
    let (proxy, _read) = echo().await;
    let mut clients = [connect(&proxy).await, connect(&proxy).await];
    for client in &mut clients {
        says(client, "a").await;
        hears(client, "a").await;
    }
    proxy.cut();
    for client in &mut clients {
        assert_eq!(client.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    proxy.until(|stats| stats.cut == 2 && stats.open == 0).await.unwrap();
    let mut new = connect(&proxy).await;
    says(&mut new, "b").await;
    hears(&mut new, "b").await;
}

#[tokio::test]
async fn a_cut_reply_loses_the_reply_and_nothing_else() {
    let (proxy, mut read) = echo().await;
    let mut bystander = connect(&proxy).await;
    let mut client = connect(&proxy).await;
    says(&mut client, "before").await;
    hears(&mut client, "before").await;

    let cut = proxy.cut_reply_to("key");
    says(&mut bystander, "something else").await;
    hears(&mut bystander, "something else").await;
    says(&mut client, "set key").await;
    assert_eq!(client.read_u8().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    cut.happened().await.unwrap();

    let seen: Vec<_> = [read.recv().await, read.recv().await, read.recv().await].into_iter().flatten().collect();
    assert_eq!(seen, [b"before".to_vec(), b"something else".to_vec(), b"set key".to_vec()]);
    assert_eq!(proxy.stats().replies_cut, 1);
    // Once only, and only that connection.
    says(&mut bystander, "set key").await;
    hears(&mut bystander, "set key").await;
}

#[tokio::test]
async fn a_cut_reply_that_was_not_reached_is_forgotten_by_pass() {
    let (proxy, _read) = echo().await;
    let mut client = connect(&proxy).await;
    let _not_reached = proxy.cut_reply();
    proxy.pass();
    says(&mut client, "hello").await;
    hears(&mut client, "hello").await;
    assert_eq!(proxy.stats().replies_cut, 0);
}

#[tokio::test]
async fn a_server_that_is_not_there_resets_its_clients() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Proxy::start(("127.0.0.1".to_owned(), gone.port())).await.unwrap();
    if let Ok(mut client) = TcpStream::connect(proxy.addr()).await {
        client.read_u8().await.unwrap_err();
    }
    proxy.until(|stats| stats.unreachable == 1).await.unwrap();
}

#[tokio::test]
async fn a_dropped_proxy_resets_its_connections_and_frees_its_port() {
    let (proxy, _read) = echo().await;
    let mut client = connect(&proxy).await;
    says(&mut client, "a").await;
    hears(&mut client, "a").await;
    drop(proxy);
    client.read_u8().await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_does_not_move_the_proxy() {
    let (proxy, mut read) = echo().await;
    let mut client = connect(&proxy).await;
    proxy.delay(Direction::ToServer, A_WHILE);
    let sent = std::time::Instant::now();
    says(&mut client, "a").await;
    assert_eq!(read.recv().await.unwrap(), b"a");
    assert!(sent.elapsed() >= A_WHILE);
}
