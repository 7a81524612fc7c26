//! A Redis in a container.

use anyhow::Result;

use super::ping;
use crate::container::{self, Failed, Spec, engine};
use crate::ports;

/// The image where `TURNSTILE_REDIS_IMAGE` names no other.
const IMAGE: &str = "redis:7.2";

/// One server in one container. Both end with it, and with us.
pub(crate) struct Container {
    pub(crate) container: container::Container,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Container {
    /// Starts a server with the given options, and waits until it answers.
    pub(crate) async fn start(mut args: Vec<String>) -> Result<Self, Failed> {
        let docker = engine().await?;
        // The engine's port mapping, not the server, decides who reaches it.
        args.extend(["--protected-mode".to_owned(), "no".to_owned()]);
        let host = container::host(&docker).await.map_err(Failed::Container)?;
        let mut tries = 0;
        let server = loop {
            tries += 1;
            let port = ports::free(ports::SERVERS).map_err(Failed::Container)?;
            let spec = Spec {
                what: "Redis",
                image: std::env::var("TURNSTILE_REDIS_IMAGE").unwrap_or_else(|_| IMAGE.to_owned()),
                args: args.clone(),
                env: Vec::new(),
                ports: vec![(port, 6379)],
                network: None,
            };
            match container::Container::create(&docker, spec).await {
                Ok(container) => break Self { container, host, port },
                // Somebody else took the port in the meantime.
                Err(error) if tries < 10 && container::port_taken(&error) => continue,
                Err(error) => return Err(Failed::Container(error)),
            }
        };
        server.ready().await.map_err(Failed::Server)?;
        Ok(server)
    }

    /// Waits until it answers a PING; an error when it ends instead.
    async fn ready(&self) -> Result<()> {
        self.container.until(ping::ready(&self.host, self.port, || Ok(()))).await
    }

    /// Starts it again after a kill, on the same port.
    pub(crate) async fn run(&self) -> Result<()> {
        self.container.run().await?;
        self.ready().await
    }
}
