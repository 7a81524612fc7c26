//! The properties of the metadata that the crate's tests check too, on whatever the fuzzer comes up with.
#![no_main]

#[path = "../../tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::all(bytes));
