//! The fuzzer's way into `judges/ipc_frame.rs`.

#![no_main]

#[path = "../judges/ipc_frame.rs"]
mod judge;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    judge::judge(data);
});
