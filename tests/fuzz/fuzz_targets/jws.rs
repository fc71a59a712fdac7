//! The fuzzer's way into `judges/jws.rs`.

#![no_main]

#[path = "../judges/jws.rs"]
mod judge;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    judge::judge(data);
});
