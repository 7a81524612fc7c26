//! The `turnstile` command, as its users meet it: processes, signals, exit codes, on a real Redis.

mod exit_codes;
mod fair;
mod locking;
mod lost;
mod queue;
mod redlock;
mod secrets;
mod semaphore;
mod signals;
mod support;
mod terminal;

mod told;
