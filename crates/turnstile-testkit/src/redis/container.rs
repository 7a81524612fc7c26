//! A Redis in a container, by testcontainers.
//!
//! The port on the host is chosen here, since one that the engine chooses changes with a restart. Containers end by
//! their own `Drop`, by a [`Guard`] that runs `docker rm` when this process dies, and, where there is no `docker`
//! command for that, by the next run that finds them: each bears the label [`STARTED`].

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, Result, anyhow};
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::HostConfig;
use testcontainers::bollard::query_parameters::{
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use testcontainers::core::{IntoContainerPort, client::docker_client_instance};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use super::ping;
use crate::guard::Guard;
use crate::{ports, runtime};

/// The image where `TURNSTILE_REDIS_IMAGE` names no other.
const IMAGE: &str = "redis:7.2";
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
    /// The container started, and the Redis in it did not answer.
    Redis(Error),
}

/// One server in one container. Both end with it, and with us.
pub(crate) struct Container {
    inside: Option<(ContainerAsync<GenericImage>, Guard)>,
    id: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Its address among containers.
    pub(crate) ip: String,
}

impl Container {
    /// Starts a server with the given options, and waits until it answers.
    pub(crate) async fn start(mut args: Vec<String>) -> Result<Self, Failed> {
        let docker = engine().await.map_err(Failed::Engine)?;
        // The engine's port mapping, not the server, decides who reaches it.
        args.extend(["--protected-mode".to_owned(), "no".to_owned()]);
        let container = Self::create(&docker, args).await.map_err(Failed::Container)?;
        container.ready().await.map_err(Failed::Redis)?;
        Ok(container)
    }

    async fn create(docker: &Docker, args: Vec<String>) -> Result<Self> {
        let image = std::env::var("TURNSTILE_REDIS_IMAGE").unwrap_or_else(|_| IMAGE.to_owned());
        let (name, tag) = match image.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (image.as_str(), "latest"),
        };
        let started = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let here = is_here(docker).await;
        let mut tries = 0;
        let (container, port) = loop {
            tries += 1;
            let port = ports::free(ports::SERVERS)?;
            let request = GenericImage::new(name, tag)
                .with_cmd(args.clone())
                .with_mapped_port(port, 6379.tcp())
                .with_label(STARTED, started.to_string())
                .with_host_config_modifier(move |config| bind(config, here));
            match timeout(START_WITHIN, request.start()).await {
                Ok(Ok(container)) => break (container, port),
                // Somebody else took the port in the meantime.
                Ok(Err(error)) if tries < 10 && error.to_string().contains("already") => continue,
                Ok(Err(error)) => return Err(error).with_context(|| format!("no container of {image}")),
                Err(_) => return Err(anyhow!("no container of {image} within {START_WITHIN:?}")),
            }
        };
        let id = container.id().to_owned();
        let guard = Guard::new("docker rm --force --volumes \"$1\"", &[&id])?;
        let host = if here { "127.0.0.1".to_owned() } else { container.get_host().await?.to_string() };
        let networks = docker.inspect_container(&id, None).await?.network_settings.and_then(|set| set.networks);
        let ip = networks.and_then(|networks| networks.into_values().find_map(|network| network.ip_address));
        Ok(Self { inside: Some((container, guard)), id, host, port, ip: ip.unwrap_or_default() })
    }

    /// Waits until it answers a PING; an error when it ends instead.
    async fn ready(&self) -> Result<()> {
        let (container, _) = self.inside.as_ref().context("the container is gone")?;
        let ended = async {
            while container.is_running().await? {
                sleep(Duration::from_millis(100)).await;
            }
            let said = container.stdout_to_vec().await.unwrap_or_default();
            Err(anyhow!(
                "the Redis in the container ended at once: {}",
                ping::last_lines(&String::from_utf8_lossy(&said))
            ))
        };
        tokio::select! {
            ready = ping::ready(&self.host, self.port, || Ok(())) => ready,
            ended = ended => ended,
        }
    }

    /// Sends a signal to the server; the engine waits for the end that SIGKILL brings.
    pub(crate) async fn signal(&self, signal: &str) -> Result<()> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        let sent = engine().await?.kill_container(&self.id, Some(options)).await;
        sent.with_context(|| format!("the engine did not send {signal} to the Redis"))
    }

    /// Ends it by SIGKILL if it runs.
    pub(crate) async fn kill(&self) -> Result<()> {
        let (container, _) = self.inside.as_ref().context("the container is gone")?;
        if container.is_running().await? {
            self.signal("SIGKILL").await?;
        }
        Ok(())
    }

    /// Starts it again after a kill, on the same port.
    pub(crate) async fn run(&self) -> Result<()> {
        let (container, _) = self.inside.as_ref().context("the container is gone")?;
        container.start().await?;
        self.ready().await
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
async fn engine() -> Result<Docker> {
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
    let bridge = docker.inspect_network("bridge", None).await.ok().and_then(|network| network.ipam?.config);
    let gateway = bridge.into_iter().flatten().find_map(|config| config.gateway);
    gateway.is_some_and(|gateway| TcpListener::bind((gateway, 0)).is_ok())
}

/// Keeps a server without a password from other machines, where it can.
fn bind(config: &mut HostConfig, here: bool) {
    for binding in config.port_bindings.iter_mut().flatten().flat_map(|(_, bindings)| bindings.iter_mut().flatten()) {
        binding.host_ip = here.then(|| "127.0.0.1".to_owned());
    }
}
