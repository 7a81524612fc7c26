//! Wake-ups by pub/sub: what is told to whom, and that a lost connection is told too.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use redis_lua::redis::cmd;
use redis_lua::{Channel, Client, Heard, Inbox};
use support::{client, name, run, until};
use tokio::time::timeout;
use turnstile_core::{ErrorKind, Owner};
use turnstile_testkit::redis::Redis;

/// Far longer than anything here takes.
const NET: Duration = Duration::from_secs(30);

async fn publish(client: &Client, channel: &Channel, message: impl AsRef<[u8]>) -> u32 {
    let command = if channel.is_sharded() { "SPUBLISH" } else { "PUBLISH" };
    client.run(cmd(command).arg(channel).arg(message.as_ref())).await.unwrap()
}

/// Waits for a message, and fails when none comes.
async fn told(inbox: &Inbox, owner: Owner) {
    assert!(inbox.told(owner, NET).await, "nothing was told");
}

/// Listens, and takes what the subscription itself tells.
async fn listen(inbox: &Inbox, name: &redis_lua::Name, owner: Owner) {
    inbox.listen(name, owner).await.unwrap();
    told(inbox, owner).await;
}

async fn hears_nothing(inbox: &Inbox, owner: Owner) -> bool {
    !inbox.told(owner, Duration::from_millis(50)).await
}

#[tokio::test]
async fn a_message_reaches_the_waiter_that_it_names_and_no_other() {
    let (client, name) = (client().await, name("told"));
    let inbox = Inbox::new(client.clone());
    let [one, two, three] = [Owner::random(), Owner::random(), Owner::random()];
    for owner in [one, two, three] {
        inbox.expect(&name, owner);
    }
    // The first opens the connection; all who are expected are told that it stands.
    for owner in [one, two, three] {
        listen(&inbox, &name, owner).await;
    }
    let channel = inbox.channel(&name);
    assert_eq!(publish(&client, &channel, one.to_hex()).await, 1, "one subscription for all");
    told(&inbox, one).await;
    assert!(hears_nothing(&inbox, two).await);
    publish(&client, &channel, format!("{one}{two}")).await;
    told(&inbox, one).await;
    told(&inbox, two).await;
    assert!(hears_nothing(&inbox, three).await);

    inbox.forget(three);
    inbox.forget(three);
    inbox.tell(two);
    told(&inbox, two).await;
    publish(&client, &channel, three.to_hex()).await;
    inbox.tell(three);
    publish(&client, &channel, "nobody").await;
    assert!(hears_nothing(&inbox, three).await);
}

#[tokio::test]
async fn a_message_that_comes_before_it_is_waited_for_counts() {
    let (client, name) = (client().await, name("permit"));
    let inbox = Inbox::new(client.clone());
    let owner = Owner::random();
    listen(&inbox, &name, owner).await;
    let mut seen = inbox.follow(&name, "seen").await.unwrap();
    publish(&client, &inbox.channel(&name), owner.to_hex()).await;
    publish(&client, &inbox.beside(&name, "seen"), "it has come").await;
    assert_eq!(timeout(NET, seen.next()).await.unwrap(), Heard::Message("it has come".into()));
    told(&inbox, owner).await;
    assert!(hears_nothing(&inbox, owner).await, "once");
}

#[tokio::test]
async fn a_killed_connection_is_told_to_all_and_messages_come_again() {
    let server = Redis::start().await.unwrap();
    let client = Client::connect(server.url()).await.unwrap();
    let (inbox, name) = (Inbox::new(client.clone()), name("killed"));
    let owners = [Owner::random(), Owner::random()];
    for owner in owners {
        inbox.expect(&name, owner);
    }
    for owner in owners {
        listen(&inbox, &name, owner).await;
    }
    let mut follower = inbox.follow(&name, "events").await.unwrap();
    for _ in 0..20 {
        let killed: u32 = run(&client, "CLIENT KILL TYPE pubsub").await;
        assert_eq!(killed, 1, "one connection for all");
        for owner in owners {
            told(&inbox, owner).await;
        }
        assert_eq!(timeout(NET, follower.next()).await.unwrap(), Heard::Gap);
        for owner in owners {
            publish(&client, &inbox.channel(&name), owner.to_hex()).await;
            told(&inbox, owner).await;
        }
        until("the follower's channel stands too", async || {
            publish(&client, &inbox.beside(&name, "events"), "hello").await == 1
        })
        .await;
        assert_eq!(timeout(NET, follower.next()).await.unwrap(), Heard::Message("hello".into()));
    }
}

#[tokio::test]
async fn without_a_server_it_fails_soon_and_works_when_there_is_one_again() {
    let mut server = Redis::start().await.unwrap();
    let client = Client::connect(server.url()).await.unwrap();
    let (inbox, name, owner) = (Inbox::new(client.clone()), name("down"), Owner::random());
    server.kill().await.unwrap();
    let error = timeout(NET, inbox.listen(&name, owner)).await.unwrap().unwrap_err();
    assert!(error.is_transient(), "{error}");
    inbox.told(owner, Duration::from_millis(1)).await;
    server.restart().await.unwrap();
    told(&inbox, owner).await;
    publish(&client, &inbox.channel(&name), owner.to_hex()).await;
    told(&inbox, owner).await;
}

#[tokio::test]
async fn a_forbidden_channel_is_told_as_such() {
    let server = Redis::start().await.unwrap();
    let admin = Client::connect(server.url()).await.unwrap();
    run::<()>(&admin, "ACL SETUSER anne on >secret +@all ~* resetchannels").await;
    let client = Client::builder(server.url()).username("anne").password("secret").connect().await.unwrap();
    let (inbox, name) = (Inbox::new(client), name("forbidden"));
    let error = timeout(NET, inbox.listen(&name, Owner::random())).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(inbox.follow(&name, "events").await.is_err());
}

#[test]
fn it_goes_on_in_another_runtime_when_its_own_has_ended() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (name, owner) = (name("runtimes"), Owner::random());
    let first = runtime();
    let inbox = first.block_on(async {
        let inbox = Inbox::new(client().await);
        listen(&inbox, &name, owner).await;
        inbox
    });
    drop(first);
    runtime().block_on(async {
        told(&inbox, owner).await;
        publish(&client().await, &inbox.channel(&name), owner.to_hex()).await;
        told(&inbox, owner).await;
    });
}

#[cfg(feature = "cluster")]
#[tokio::test]
async fn on_a_cluster_it_is_sharded_and_a_killed_connection_is_told_there_too() {
    let server = Redis::builder().cluster().start().await.unwrap();
    let (node, client) = (Client::connect(server.url()).await.unwrap(), Client::cluster([server.url()]));
    let client = client.connect().await.unwrap();
    let inbox = Inbox::new(client.clone());
    let names = [name("one"), name("two"), redis_lua::Name::new(format!("a{{{}}}", name("tag"))).unwrap()];
    let owners = [Owner::random(), Owner::random(), Owner::random()];
    for (name, owner) in names.iter().zip(owners) {
        let slot: u16 = node.run(cmd("CLUSTER").arg("KEYSLOT").arg(inbox.channel(name))).await.unwrap();
        assert_eq!(slot, name.slot(), "scripts may publish to it");
        listen(&inbox, name, owner).await;
    }
    for _ in 0..5 {
        for (name, owner) in names.iter().zip(owners) {
            assert_eq!(publish(&client, &inbox.channel(name), owner.to_hex()).await, 1);
            told(&inbox, owner).await;
        }
        run::<u32>(&node, "CLIENT KILL TYPE pubsub").await;
        for owner in owners {
            told(&inbox, owner).await;
        }
    }
}
