//! Configuration texts. Every refusal has a code.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = chancery::config::parse_str(text) {
        assert!(error.to_string().starts_with("CHY-"), "{error}");
    }
});
