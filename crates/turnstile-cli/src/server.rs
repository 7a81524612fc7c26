//! The one place where the command meets its Redis.

use clap::Args;
use redis_lock::{BackendError, Client};

use crate::exit::{self, Failure};

/// Which Redis. Without `Debug`, as a URL may hold a password.
#[derive(Args)]
pub struct Server {
    /// Never printed: the help texts are given apart, since rustdoc takes brackets for links.
    #[arg(long, env = "TURNSTILE_REDIS_URL", hide_env_values = true, value_name = "URL", help = HELP, long_help = LONG_HELP)]
    url: Option<String>,
}

impl Server {
    /// Host and port of the Redis, without credentials; none if it is not said which.
    #[cfg(feature = "top")]
    pub fn address(&self) -> Option<String> {
        let client = Client::new(self.url.as_ref()?);
        Some(client.map_or_else(|_| "?".to_owned(), |client| client.address().to_owned()))
    }

    /// Connects, within a second.
    pub async fn client(&self) -> Result<Client, Failure> {
        let no_url = || Failure::new(exit::USAGE, "which Redis? Give its URL by --url or TURNSTILE_REDIS_URL");
        let url = self.url.as_ref().ok_or_else(no_url)?;
        Ok(Client::connect(url).await.map_err(BackendError::from)?)
    }
}

const HELP: &str = "The Redis server: redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss://… for TLS, or unix:///PATH";
const LONG_HELP: &str = "\
The Redis server: redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss://… for TLS, or unix:///PATH

Who may list the machine's processes sees the options of each: give a URL with a password by TURNSTILE_REDIS_URL \
instead. It is never printed.";
