#![doc = include_str!("../README.md")]

pub mod child;
pub mod proxy;
pub mod redis;

mod guard;
mod name;
mod ports;
mod runtime;
mod signals;
mod until;

pub use name::unique;
pub use until::until;
