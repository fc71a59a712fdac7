//! The fuzzer's way into `judges/backup.rs`.

#![no_main]

#[path = "../judges/backup.rs"]
mod judge;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    judge::judge(data);
});
