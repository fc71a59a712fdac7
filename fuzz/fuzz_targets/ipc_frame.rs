//! What arrives on the issuer's socket.

#![no_main]

use chancery::ipc::frame::{Hello, Request, Response, decode, encode, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(Some((payload, taken))) = parse(rest) {
        message(payload);
        rest = &rest[taken..];
    }
    // Without a length in front, so that the fuzzer need not find one that fits.
    message(data);
});

fn message(payload: &[u8]) {
    let _ = Hello::parse(payload);
    if let Ok(request) = decode::<Request>(payload) {
        let frame = encode(&request).unwrap();
        let (again, taken) = parse(&frame).unwrap().unwrap();
        assert_eq!(taken, frame.len());
        assert_eq!(decode::<Request>(again), Ok(request));
    }
    if let Ok(response) = decode::<Response>(payload) {
        let frame = encode(&response).unwrap();
        let (again, _) = parse(&frame).unwrap().unwrap();
        assert_eq!(decode::<Response>(again), Ok(response));
    }
}
