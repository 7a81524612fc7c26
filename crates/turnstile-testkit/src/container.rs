//! A server in a container, by testcontainers.
//!
//! Ports on the host are chosen here, since one that the engine chooses changes with a restart. Containers end by
//! their own `Drop`, by a [`Guard`] that runs `docker rm` when this process dies, and, where there is no `docker`
//! command for that, by the next run that finds them: each bears the label [`STARTED`].

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, Result, anyhow, bail};
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::{HostConfig, IpamConfig};
use testcontainers::bollard::query_parameters::{
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use testcontainers::core::{IntoContainerPort, client::docker_client_instance};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use crate::guard::Guard;
use crate::process::last_lines;
use crate::runtime;

/// The label with the time of the start, in seconds since 1970.
const STARTED: &str = "turnstile-testkit.started";
/// After this long a container with our label is a leftover. Test runs end long before.
const LEFTOVER: Duration = Duration::from_secs(2 * 60 * 60);
/// How long the engine may take to start a container, fetching the image included.
const START_WITHIN: Duration = Duration::from_secs(180);

/// Why there is no container, and whether something else may do instead.
pub(crate) enum Failed {
    /// No engine answers.
    Engine(Error),
    /// The engine does not get us a container: no such image, no rights.
    Container(Error),
    /// The container started, and the server in it did not answer.
    Server(Error),
}

/// What to run.
pub(crate) struct Spec {
    /// What it is, for errors' texts: `Redis`.
    pub(crate) what: &'static str,
    pub(crate) image: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Ports on the host, and in the container.
    pub(crate) ports: Vec<(u16, u16)>,
    /// A network of containers that are to reach each other, and this one's name in it.
    pub(crate) network: Option<(String, String)>,
}

/// One server in one container. Both end with it, and with us.
pub(crate) struct Container {
    what: &'static str,
    inside: Option<(ContainerAsync<GenericImage>, Guard)>,
    id: String,
    /// Its address among containers.
    pub(crate) ip: String,
}

/// Whether a container was refused for a port that somebody else has.
pub(crate) fn port_taken(error: &Error) -> bool {
    format!("{error:#}").contains("already")
}

impl Container {
    /// Starts a container; the server in it need not answer yet.
    pub(crate) async fn create(docker: &Docker, spec: Spec) -> Result<Self> {
        let Spec { what, image, args, env, ports, network } = spec;
        let (name, tag) = match image.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (image.as_str(), "latest"),
        };
        let started = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let here = is_here(docker).await;
        let mut request = GenericImage::new(name, tag)
            .with_cmd(args)
            .with_label(STARTED, started.to_string())
            .with_host_config_modifier(move |config| bind(config, here));
        for (host, inside) in ports {
            request = request.with_mapped_port(host, inside.tcp());
        }
        for (name, value) in env {
            request = request.with_env_var(name, value);
        }
        let mut cleaning = "docker rm --force --volumes \"$1\"".to_owned();
        if let Some((network, name)) = &network {
            request = request.with_network(network).with_container_name(name);
            cleaning += "; docker network rm \"$2\""; // Refused until the last of them is gone.
        }
        let container = match timeout(START_WITHIN, request.start()).await {
            Ok(started) => started.with_context(|| format!("no container of {image}"))?,
            Err(_) => bail!("no container of {image} within {START_WITHIN:?}"),
        };
        let id = container.id().to_owned();
        let network = network.map(|(network, _)| network).unwrap_or_default();
        let guard = Guard::new(&cleaning, &[&id, &network])?;
        let networks = docker.inspect_container(&id, None).await?.network_settings.and_then(|set| set.networks);
        let ip = networks.and_then(|networks| networks.into_values().find_map(|network| network.ip_address));
        Ok(Self { what, inside: Some((container, guard)), id, ip: ip.unwrap_or_default() })
    }

    fn inside(&self) -> Result<&ContainerAsync<GenericImage>> {
        self.inside.as_ref().map(|(container, _)| container).context("the container is gone")
    }

    /// An error with its last words when it does not run.
    pub(crate) async fn alive(&self) -> Result<()> {
        let container = self.inside()?;
        if container.is_running().await? {
            return Ok(());
        }
        let said = [container.stdout_to_vec().await, container.stderr_to_vec().await];
        let said =
            said.into_iter().flatten().map(|said| String::from_utf8_lossy(&said).into_owned()).collect::<String>();
        Err(anyhow!("the {} in the container ended at once: {}", self.what, last_lines(&said)))
    }

    /// Waits for `ready`, which tells that the server answers; an error when the container ends instead.
    pub(crate) async fn until(&self, ready: impl Future<Output = Result<()>>) -> Result<()> {
        let ended = async {
            loop {
                self.alive().await?;
                sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            ready = ready => ready,
            ended = ended => ended,
        }
    }

    /// Sends a signal to the server; the engine waits for the end that SIGKILL brings.
    pub(crate) async fn signal(&self, signal: &str) -> Result<()> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        let sent = reach().await?.kill_container(&self.id, Some(options)).await;
        sent.with_context(|| format!("the engine did not send {signal} to the {}", self.what))
    }

    /// Ends it by SIGKILL if it runs.
    pub(crate) async fn kill(&self) -> Result<()> {
        if self.inside()?.is_running().await? {
            self.signal("SIGKILL").await?;
        }
        Ok(())
    }

    /// Starts it again after a kill, on the same ports.
    pub(crate) async fn run(&self) -> Result<()> {
        Ok(self.inside()?.start().await?)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let (Some((container, guard)), Ok(runtime)) = (self.inside.take(), runtime::handle()) {
            // The guard goes last: should we end before the container is gone, it removes it.
            runtime.spawn(async move {
                if container.rm().await.is_ok() {
                    drop(guard);
                }
            });
        }
    }
}

/// The engine, once it has answered; the first time, leftovers of earlier runs are removed.
pub(crate) async fn engine() -> Result<Docker, Failed> {
    reach().await.map_err(Failed::Engine)
}

async fn reach() -> Result<Docker> {
    static CLEANED: OnceCell<()> = OnceCell::const_new();
    let docker = docker_client_instance().await?;
    if !CLEANED.initialized() {
        timeout(Duration::from_secs(5), docker.ping()).await.context("the Docker engine does not answer")??;
        CLEANED.get_or_init(|| remove_leftovers(&docker)).await;
    }
    Ok(docker)
}

/// Removes containers of ours that an earlier run left behind. What cannot be removed is left to the next run.
async fn remove_leftovers(docker: &Docker) {
    let ours = [("label", vec![STARTED])].into();
    let options = ListContainersOptionsBuilder::new().all(true).filters(&ours).build();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    for container in docker.list_containers(Some(options)).await.unwrap_or_default() {
        let started = container.labels.as_ref().and_then(|labels| labels.get(STARTED)?.parse().ok());
        if let (Some(id), Some(started)) = (container.id, started)
            && now.saturating_sub(Duration::from_secs(started)) > LEFTOVER
        {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            let _ = docker.remove_container(&id, Some(options)).await;
        }
    }
}

/// Whether we reach on our own loopback what the engine maps to its.
async fn is_here(docker: &Docker) -> bool {
    if std::env::var("DOCKER_HOST").is_ok_and(|host| !host.starts_with("unix:")) {
        return false;
    }
    if !Path::new("/.dockerenv").exists() {
        return true;
    }
    // In a container ourselves: the engine is in here too if the address of its bridge is one of ours.
    gateway(docker).await.is_some_and(|gateway| TcpListener::bind((gateway, 0)).is_ok())
}

/// The host on which we reach ports that the engine maps.
pub(crate) async fn host(docker: &Docker) -> Result<String> {
    if is_here(docker).await {
        return Ok("127.0.0.1".to_owned());
    }
    let engine = std::env::var("DOCKER_HOST").unwrap_or_default();
    match engine.split_once("://").filter(|(scheme, _)| *scheme != "unix") {
        Some((_, rest)) => {
            let authority = rest.split('/').next().unwrap_or(rest);
            Ok(authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_owned())
        }
        None => gateway(docker).await.context("the engine says nothing of its bridge"),
    }
}

/// The address of the engine's bridge, where containers reach the host. An engine that has just made it may tell only its
/// subnet, of which it takes the first address.
async fn gateway(docker: &Docker) -> Option<String> {
    let bridge = docker.inspect_network("bridge", None).await.ok()?.ipam?.config;
    let address = |config: IpamConfig| config.gateway.or_else(|| first_address(&config.subnet?));
    bridge.into_iter().flatten().find_map(address)
}

fn first_address(subnet: &str) -> Option<String> {
    let network: Ipv4Addr = subnet.split('/').next()?.parse().ok()?;
    Some(Ipv4Addr::from(u32::from(network).checked_add(1)?).to_string())
}

/// Keeps a server without a password from other machines, where it can.
fn bind(config: &mut HostConfig, here: bool) {
    for binding in config.port_bindings.iter_mut().flatten().flat_map(|(_, bindings)| bindings.iter_mut().flatten()) {
        binding.host_ip = here.then(|| "127.0.0.1".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::first_address;

    #[test]
    fn a_bridge_has_the_first_address_of_its_subnet() {
        assert_eq!(first_address("172.17.0.0/16").as_deref(), Some("172.17.0.1"));
        assert_eq!(first_address("fd00::/64"), None);
    }
}
