//! A connection that subscribes, to one server or, by sharded pub/sub, to the nodes of a cluster.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use redis::RedisError;
use redis::aio::PubSubSink;

/// What a subscriber hears. Its stream ends when the connection is lost.
pub(crate) enum Event {
    Message {
        channel: String,
        payload: Vec<u8>,
    },
    /// The server ended this subscription: on a cluster, the slot has moved, or we asked for it.
    #[cfg(feature = "cluster")]
    Left {
        channel: String,
    },
}

pub(crate) type Events = BoxStream<'static, Event>;

/// The side that subscribes. Dropped together with its stream, the connection is closed.
pub(crate) enum Subscriber {
    Single(PubSubSink),
    #[cfg(feature = "cluster")]
    Cluster(redis::cluster_async::ClusterConnection),
}

impl Subscriber {
    pub(crate) fn single(pubsub: redis::aio::PubSub) -> (Self, Events) {
        let (sink, messages) = pubsub.split();
        let events = messages.map(|message| Event::Message {
            channel: message.get_channel_name().to_owned(),
            payload: message.get_payload_bytes().to_vec(),
        });
        (Self::Single(sink), events.boxed())
    }

    /// `pushes` is what the connection's push sender was given. One node lost is all lost: the whole is made anew.
    #[cfg(feature = "cluster")]
    pub(crate) fn cluster(
        connection: redis::cluster_async::ClusterConnection,
        pushes: tokio::sync::mpsc::UnboundedReceiver<redis::PushInfo>,
    ) -> (Self, Events) {
        use redis::{PushKind, Value, from_redis_value};
        let pushes = futures_util::stream::unfold(pushes, async |mut pushes| Some((pushes.recv().await?, pushes)));
        let text = |value: Option<Value>| value.and_then(|value| from_redis_value::<String>(value).ok());
        let bytes = move |value: Option<Value>| match value {
            Some(Value::BulkString(bytes)) => bytes,
            other => text(other).unwrap_or_default().into_bytes(),
        };
        let events = pushes.take_while(|push| std::future::ready(push.kind != PushKind::Disconnection)).filter_map(
            move |push| {
                let mut data = push.data.into_iter();
                std::future::ready(match push.kind {
                    PushKind::SMessage => {
                        text(data.next()).map(|channel| Event::Message { channel, payload: bytes(data.next()) })
                    }
                    PushKind::SUnsubscribe => text(data.next()).map(|channel| Event::Left { channel }),
                    _ => None,
                })
            },
        );
        (Self::Cluster(connection), events.boxed())
    }

    /// Subscribes to each; tells of each whether it stands.
    pub(crate) async fn subscribe(&mut self, channels: &[Arc<str>]) -> Vec<Result<(), RedisError>> {
        match self {
            Self::Single(sink) => {
                let names: Vec<&str> = channels.iter().map(|channel| &**channel).collect();
                let done = sink.subscribe(&names).await;
                channels.iter().map(|_| done.clone()).collect()
            }
            #[cfg(feature = "cluster")]
            Self::Cluster(connection) => {
                let one = |channel: &Arc<str>| {
                    let (mut connection, channel) = (connection.clone(), channel.clone());
                    async move { connection.ssubscribe(&*channel).await }
                };
                futures_util::future::join_all(channels.iter().map(one)).await
            }
        }
    }

    pub(crate) async fn unsubscribe(&mut self, channel: &str) -> Result<(), RedisError> {
        match self {
            Self::Single(sink) => sink.unsubscribe(channel).await,
            #[cfg(feature = "cluster")]
            Self::Cluster(connection) => connection.sunsubscribe(channel).await,
        }
    }

    /// Whether anybody is there.
    pub(crate) async fn ping(&mut self) -> Result<(), RedisError> {
        match self {
            Self::Single(sink) => sink.ping::<redis::Value>().await.map(drop),
            #[cfg(feature = "cluster")]
            Self::Cluster(connection) => {
                use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
                let everywhere = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                connection.route_command(redis::cmd("PING"), everywhere).await.map(drop)
            }
        }
    }
}
