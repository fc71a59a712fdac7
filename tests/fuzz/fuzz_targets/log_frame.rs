//! The fuzzer's way into `judges/log_frame.rs`.

#![no_main]

#[path = "../judges/log_frame.rs"]
mod judge;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    judge::judge(data);
});
