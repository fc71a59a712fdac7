//! The fuzzer's way into `judges/dns_answer.rs`.

#![no_main]

#[path = "../judges/dns_answer.rs"]
mod judge;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    judge::judge(data);
});
