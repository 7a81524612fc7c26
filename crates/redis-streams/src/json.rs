//! Handlers of typed jobs: the body is JSON, by serde.

use std::marker::PhantomData;

use anyhow::Context;
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use turnstile_core::{Attempt, Handler, Outcome};

use crate::job::Job;

/// A handler of jobs whose body is JSON of the type `T`; see [`json`].
#[derive(Debug)]
pub struct Json<T, H> {
    handler: H,
    of: PhantomData<fn(T)>,
}

/// A handler of jobs out of one of values. A body that is not such a value is set aside at once: trying again would not
/// mend it.
pub fn json<T, H: Handler<T>>(handler: H) -> Json<T, H> {
    Json { handler, of: PhantomData }
}

#[async_trait]
impl<T: DeserializeOwned + Send + Sync + 'static, H: Handler<T>> Handler<Job> for Json<T, H> {
    async fn handle(&self, job: &Job, attempt: Attempt<'_>) -> Outcome {
        match job.json::<T>().context("the body is not what the handler takes") {
            Ok(value) => self.handler.handle(&value, attempt).await,
            Err(error) => Outcome::DeadLetter(error),
        }
    }
}
