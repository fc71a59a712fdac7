//! The fuzzer's way into `judges/pkcs11_uri.rs`.

#![no_main]

#[path = "../judges/pkcs11_uri.rs"]
mod judge;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    judge::judge(data);
});
