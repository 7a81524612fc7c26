//! The same work done by other libraries and by ours. Each is a program that does what it is told by lines; what comes of
//! it is reckoned here. See `benches/peers/README.md`.

pub mod figures;
pub mod ours;
pub mod records;
pub mod run;
pub mod scenarios;
pub mod serve;
