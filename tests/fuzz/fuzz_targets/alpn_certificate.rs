//! The fuzzer's way into `judges/alpn_certificate.rs`.

#![no_main]

#[path = "../judges/alpn_certificate.rs"]
mod judge;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    judge::judge(data);
});
