#![doc = include_str!("../README.md")]

pub mod child;
pub mod history;
pub mod jobs;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod proxy;
pub mod redis;

mod container;
mod found;
mod guard;
mod name;
mod ports;
mod process;
mod runtime;
mod signals;
mod until;

pub use name::unique;
pub use until::until;
