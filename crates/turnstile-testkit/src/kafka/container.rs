//! Brokers in containers of Apache's image, or of one that takes the same settings from its environment.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::find::{Places, clients};
use super::process::{MEASURING, TESTING};
use super::server::{Broker, Builder, Host};
use super::settings::{self, Common, Listener, PATHS};
use super::{Kafka, proxies, ready};
use crate::container::{self, Container, Failed, Spec, engine};
use crate::{name, ports, runtime};

/// The image where `TURNSTILE_KAFKA_IMAGE` names no other.
const IMAGE: &str = "apache/kafka:4.1.1";
/// Ports in the container, where they are as they please; only clients' have one on the host too.
const CLIENT: u16 = 9092;
const CONTROLLER: u16 = 9093;
const INTERNAL: u16 = 9094;
const ADMIN: u16 = 9095;
const PATH: u16 = 9100;

/// Starts so many brokers, and waits until all of them answer.
pub(crate) async fn start(options: &Builder, brokers: usize) -> Result<(Kafka, Vec<Broker>), Failed> {
    let docker = engine().await?;
    let host = container::host(&docker).await.map_err(Failed::Container)?;
    let mut tries = 0;
    let (common, places, ours) = loop {
        tries += 1;
        let (common, places, specs) = plan(options, brokers, &host).map_err(Failed::Container)?;
        let mut ours = Vec::new();
        for spec in specs {
            ours.push(Container::create(&docker, spec).await.map(Arc::new));
        }
        match ours.into_iter().collect::<Result<Vec<_>>>() {
            Ok(ours) => break (common, places, ours),
            // Somebody else took a port in the meantime.
            Err(error) if tries < 10 && container::port_taken(&error) => continue,
            Err(error) => return Err(Failed::Container(error)),
        }
    };
    let ours: Vec<_> = (1..)
        .zip(ours.into_iter().zip(&places.admins))
        .map(|(id, (container, admin))| {
            let clients = clients(&common, std::slice::from_ref(admin));
            Broker { id, clients, host: Host::Container(container) }
        })
        .collect();
    let kafka = Kafka::at(&common, places);
    ready(&kafka, &ours).await.map_err(Failed::Server)?;
    Ok((kafka, ours))
}

async fn ready(kafka: &Kafka, brokers: &[Broker]) -> Result<()> {
    let ids: Vec<_> = brokers.iter().map(Broker::id).collect();
    let mut alive: Vec<_> = brokers.iter().filter_map(|broker| broker.host.container().map(alive)).collect();
    kafka.clients.run(move |config| ready::wait(config, &ids, || alive.iter_mut().try_for_each(|alive| alive()))).await
}

/// Tells whether the container lives.
pub(crate) fn alive(container: &Arc<Container>) -> impl FnMut() -> Result<()> + Send + use<> {
    let container = container.clone();
    move || runtime::handle()?.block_on(container.alive())
}

/// What to run for so many brokers.
fn plan(options: &Builder, brokers: usize, host: &str) -> Result<(Common, Places, Vec<Spec>)> {
    ensure!(brokers > 0, "a Kafka has a broker at least");
    let network = name::unique("turnstile-kafka");
    // Where a broker reaches another, or itself.
    let known = |broker: usize| match brokers {
        1 => "localhost".to_owned(),
        _ => format!("{network}-{}", broker + 1),
    };
    let voters: Vec<_> = (0..brokers).map(|broker| format!("{}@{}:{CONTROLLER}", broker + 1, known(broker))).collect();
    let common = options.common(brokers, voters.join(","));
    let image = std::env::var("TURNSTILE_KAFKA_IMAGE").unwrap_or_else(|_| IMAGE.to_owned());
    let proxies = proxies::listen(brokers)?;
    let each = 2 + PATHS;
    let mapped = ports::some(ports::SERVERS, brokers * each)?;
    let port = |broker: usize, which: usize| mapped[broker * each + which];
    let reached = |broker: usize, which: usize| (host.to_owned(), port(broker, which));

    let mut specs = Vec::new();
    for broker in 0..brokers {
        let listener = |name: &str, inside: u16, tells: Option<(String, u16)>| Listener {
            name: name.to_owned(),
            binds: ("0.0.0.0".to_owned(), inside),
            tells,
        };
        let mut listeners = vec![
            listener("CONTROLLER", CONTROLLER, None),
            listener("INTERNAL", INTERNAL, Some((known(broker), INTERNAL))),
            listener("CLIENT", CLIENT, Some(reached(broker, 0))),
            listener("ADMIN", ADMIN, Some(reached(broker, 1))),
        ];
        let mut ports = vec![(port(broker, 0), CLIENT), (port(broker, 1), ADMIN)];
        for (path, proxies) in proxies.iter().enumerate() {
            let proxy = proxies[broker].local_addr()?;
            let inside = PATH + path as u16;
            listeners.push(listener(&settings::path(path), inside, Some((proxy.ip().to_string(), proxy.port()))));
            ports.push((port(broker, 2 + path), inside));
        }
        let settings = settings::of(&common, broker + 1, &listeners, "/tmp/turnstile-kafka");
        let mut env: Vec<_> = settings.into_iter().map(|(name, value)| (variable(&name), value)).collect();
        let (heap, other) = heap(if options.measuring { MEASURING } else { TESTING });
        env.extend([
            ("CLUSTER_ID".to_owned(), common.cluster.clone()),
            ("KAFKA_HEAP_OPTS".to_owned(), heap),
            ("KAFKA_JVM_PERFORMANCE_OPTS".to_owned(), other),
        ]);
        let network = (brokers > 1).then(|| (network.clone(), known(broker)));
        specs.push(Spec { what: "Kafka", image: image.clone(), args: Vec::new(), env, ports, network });
    }
    let all = |which| (0..brokers).map(|broker| reached(broker, which)).collect();
    let paths = proxies.into_iter().enumerate().map(|(path, proxies)| {
        proxies.into_iter().enumerate().map(|(broker, proxy)| (proxy, reached(broker, 2 + path))).collect()
    });
    let places = Places { clients: all(0), admins: all(1), paths: paths.collect() };
    Ok((common, places, specs))
}

/// The variable by which Kafka's image takes a setting.
fn variable(setting: &str) -> String {
    let name = setting.replace('_', "__").replace('-', "___").replace('.', "_");
    format!("KAFKA_{}", name.to_uppercase())
}

/// The same options as Kafka's scripts take them: those of the heap, and others.
fn heap(options: &[&str]) -> (String, String) {
    let (heap, other): (Vec<&str>, Vec<&str>) = options.iter().copied().partition(|option| option.starts_with("-Xm"));
    (heap.join(" "), other.join(" "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn settings_become_variables_of_the_image() {
        assert_eq!(super::variable("log.dirs"), "KAFKA_LOG_DIRS");
        assert_eq!(super::variable("a_b-c.d"), "KAFKA_A__B___C_D");
    }
}
