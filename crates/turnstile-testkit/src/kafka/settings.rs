//! The settings of a broker, the same in a process and in a container.
//!
//! Clients connect to the address that a broker tells them, whatever address they found it by. So a path through a
//! fault proxy is a listener of its own, which tells the proxy's address: each broker has [`PATHS`] of them.

/// How many paths through proxies there are at a time.
pub(crate) const PATHS: usize = 8;

/// The user of the testkit's own clients, and of brokers among themselves, where not everybody may do everything.
pub(crate) const ADMIN: &str = "admin";

/// Where one listener of a broker listens, and what it says of itself.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) binds: (String, u16),
    /// None for the controllers' listener, which is told to nobody.
    pub(crate) tells: Option<(String, u16)>,
}

/// What all brokers of a cluster have in common.
#[derive(Clone, Default)]
pub(crate) struct Common {
    pub(crate) cluster: String,
    pub(crate) brokers: usize,
    /// `1@host:port,…`
    pub(crate) voters: String,
    /// The password of [`ADMIN`], where clients may do only what they were allowed.
    pub(crate) restricted: Option<String>,
    /// What a test has set itself; it wins.
    pub(crate) own: Vec<(String, String)>,
}

/// The name of the listener of path `path`.
pub(crate) fn path(path: usize) -> String {
    format!("PATH{path}")
}

/// The settings of broker `id`.
pub(crate) fn of(common: &Common, id: usize, listeners: &[Listener], data: &str) -> Vec<(String, String)> {
    let address = |name: &str, (host, port): &(String, u16)| format!("{name}://{host}:{port}");
    let joined = |parts: Vec<String>| parts.join(",");
    let logins = |name: &str| common.restricted.is_some() && matches!(name, "INTERNAL" | "CONTROLLER" | "ADMIN");
    let replicas = common.brokers.min(3).to_string();
    let in_sync = common.brokers.min(2).to_string();
    let own = [
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", id.to_string()),
        ("controller.quorum.voters", common.voters.clone()),
        ("listeners", joined(listeners.iter().map(|one| address(&one.name, &one.binds)).collect())),
        (
            "advertised.listeners",
            joined(listeners.iter().filter_map(|one| Some(address(&one.name, one.tells.as_ref()?))).collect()),
        ),
        (
            "listener.security.protocol.map",
            joined(
                listeners
                    .iter()
                    .map(|one| {
                        let protocol = if logins(&one.name) { "SASL_PLAINTEXT" } else { "PLAINTEXT" };
                        format!("{}:{protocol}", one.name)
                    })
                    .collect(),
            ),
        ),
        ("log.dirs", data.to_owned()),
        ("offsets.topic.replication.factor", replicas.clone()),
        ("transaction.state.log.replication.factor", replicas.clone()),
        ("transaction.state.log.min.isr", in_sync.clone()),
        ("share.coordinator.state.topic.replication.factor", replicas.clone()),
        ("share.coordinator.state.topic.min.isr", in_sync.clone()),
        ("default.replication.factor", replicas),
        ("min.insync.replicas", in_sync),
    ];
    let mut all: Vec<_> = own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let fixed = FIXED.lines().filter_map(|line| line.split_once('='));
    all.extend(fixed.map(|(name, value)| (name.to_owned(), value.to_owned())));
    if let Some(password) = &common.restricted {
        all.extend(restricted(password, listeners.iter().map(|one| one.name.as_str()).filter(|name| logins(name))));
    }
    for (name, value) in &common.own {
        all.retain(|(known, _)| known != name);
        all.push((name.clone(), value.clone()));
    }
    all
}

/// Small and quick: tests wait for sessions to end, and for nothing else.
const FIXED: &str = "\
inter.broker.listener.name=INTERNAL
controller.listener.names=CONTROLLER
auto.create.topics.enable=false
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
group.consumer.min.session.timeout.ms=500
group.consumer.session.timeout.ms=3000
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=300
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=200
controlled.shutdown.enable=false
log.cleaner.dedupe.buffer.size=4194304
num.network.threads=1
num.io.threads=4
num.recovery.threads.per.data.dir=1
background.threads=2
";

/// Clients without a name may do what was allowed to them; brokers and the testkit log in, and may do all.
fn restricted<'a>(password: &str, listeners: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let login = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"{ADMIN}\" \
         password=\"{password}\" user_{ADMIN}=\"{password}\";"
    );
    let mut all = vec![
        ("authorizer.class.name".to_owned(), "org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned()),
        ("super.users".to_owned(), format!("User:{ADMIN}")),
        ("sasl.enabled.mechanisms".to_owned(), "PLAIN".to_owned()),
        ("sasl.mechanism.inter.broker.protocol".to_owned(), "PLAIN".to_owned()),
        ("sasl.mechanism.controller.protocol".to_owned(), "PLAIN".to_owned()),
    ];
    all.extend(
        listeners.map(|name| (format!("listener.name.{}.plain.sasl.jaas.config", name.to_lowercase()), login.clone())),
    );
    all
}
