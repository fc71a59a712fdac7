//! What arrives on the issuer's socket.

use chancery::ipc::frame::{Hello, Request, Response, decode, encode, parse};

/// True if a message was in it.
pub(crate) fn judge(data: &[u8]) -> bool {
    let mut rest = data;
    let mut any = false;
    while let Ok(Some((payload, taken))) = parse(rest) {
        any |= message(payload);
        rest = &rest[taken..];
    }
    // Without a length in front, so that the fuzzer need not find one that fits.
    message(data) || any
}

fn message(payload: &[u8]) -> bool {
    let mut any = Hello::parse(payload).is_ok();
    if let Ok(request) = decode::<Request>(payload) {
        let frame = encode(&request).unwrap();
        let (again, taken) = parse(&frame).unwrap().unwrap();
        assert_eq!(taken, frame.len());
        assert_eq!(decode::<Request>(again), Ok(request));
        any = true;
    }
    if let Ok(response) = decode::<Response>(payload) {
        let frame = encode(&response).unwrap();
        let (again, _) = parse(&frame).unwrap().unwrap();
        assert_eq!(decode::<Response>(again), Ok(response));
        any = true;
    }
    any
}
