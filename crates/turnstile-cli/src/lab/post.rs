//! The worker's end of the line to the lab.

use std::fmt::Display;

use anyhow::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin, Stdout};

use super::crew::Said;

/// Orders come in, answers go out.
pub struct Post {
    orders: Lines<BufReader<Stdin>>,
    answers: Stdout,
}

impl Post {
    pub fn new() -> Self {
        Self { orders: BufReader::new(tokio::io::stdin()).lines(), answers: tokio::io::stdout() }
    }

    /// The next order; `None` when the lab has gone.
    pub async fn order<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let line = self.orders.next_line().await?;
        Ok(line.map(|line| serde_json::from_str(&line)).transpose()?)
    }

    /// Answers the order.
    pub async fn answer<T: Serialize, E: Display>(&mut self, answer: Result<T, E>) -> Result<()> {
        let said = match answer {
            Ok(answer) => Said::Ok(answer),
            Err(error) => Said::Failed(format!("{error:#}")),
        };
        let mut line = serde_json::to_vec(&said)?;
        line.push(b'\n');
        self.answers.write_all(&line).await?;
        Ok(self.answers.flush().await?)
    }
}
