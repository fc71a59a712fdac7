//! The fuzzer's way into `judges/http_answer.rs`.

#![no_main]

#[path = "../judges/http_answer.rs"]
mod judge;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    judge::judge(data);
});
