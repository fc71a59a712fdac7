//! Configuration texts. Every refusal has a code.

/// True if the text is a whole configuration.
pub(crate) fn judge(data: &[u8]) -> bool {
    let text = match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&data[..error.valid_up_to()]).unwrap(),
    };
    match chancery::config::parse_str(text) {
        Ok(()) => true,
        Err(error) => {
            assert!(error.to_string().starts_with("CHY-"), "{error}");
            false
        }
    }
}
