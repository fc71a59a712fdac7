//! Frames: a 4-octet big-endian length, then that many octets; bounded before allocation.
//!
//! The first frame each way is a hello of fixed layout, readable by every version ever made. All later
//! ones are one postcard message each, and octets after the message are refused.

use std::io::{self, Read};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::message::{Answer, MAX_FRAME, Question, Refusal, VERSION};

/// A question under way. Ids are the asker's; one in use twice is the asker's loss.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    pub id: u64,
    pub question: Question,
}

/// The answer to the request of the same id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Response {
    pub id: u64,
    pub result: Result<Answer, Refusal>,
}

/// Why octets are not a frame, or a frame not a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// The length is zero or exceeds [`MAX_FRAME`].
    Length(u64),
    /// The payload is not exactly one message of the kind that is due.
    Message,
}

/// The frame at the start of `bytes`: its payload and how many octets it takes in all.
/// `None` if more octets are needed to say.
pub fn parse(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, FrameError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let length = payload_length(*prefix)?;
    Ok(rest.get(..length).map(|payload| (payload, PREFIX + length)))
}

/// Decodes exactly one message.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(payload) {
        Ok((message, [])) => Ok(message),
        _ => Err(FrameError::Message),
    }
}

/// The whole frame of one message, length included.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let frame = postcard::to_extend(message, vec![0u8; PREFIX]).map_err(|_| FrameError::Message)?;
    finish(frame)
}

/// Reads one frame's payload into `payload`, replacing what it held. `Ok(false)` when the stream ended
/// between frames.
pub(super) fn read(stream: &mut impl Read, payload: &mut Vec<u8>) -> io::Result<bool> {
    let mut prefix = [0u8; PREFIX];
    let first = loop {
        match stream.read(&mut prefix) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Ok(false);
    }
    stream.read_exact(&mut prefix[first..])?;
    let length = payload_length(prefix)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{e:?}")))?;
    payload.clear();
    payload.resize(length, 0);
    stream.read_exact(payload)?;
    Ok(true)
}

/// What each side says first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    pub version: u16,
    /// SHA-256 over the effective configuration.
    pub digest: [u8; 32],
}

impl Hello {
    /// This binary's.
    pub fn new(digest: [u8; 32]) -> Self {
        Self { version: VERSION, digest }
    }

    /// The whole frame, length included. The layout never changes between versions.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(PREFIX + HELLO);
        frame.extend_from_slice(&(HELLO as u32).to_be_bytes());
        frame.extend_from_slice(MAGIC);
        frame.extend_from_slice(&self.version.to_be_bytes());
        frame.extend_from_slice(&self.digest);
        frame
    }

    /// Parses a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, FrameError> {
        let rest = payload.strip_prefix(MAGIC).ok_or(FrameError::Message)?;
        let (version, digest) = rest.split_first_chunk::<2>().ok_or(FrameError::Message)?;
        Ok(Self {
            version: u16::from_be_bytes(*version),
            digest: digest.try_into().map_err(|_| FrameError::Message)?,
        })
    }
}

/// Reads a hello without ever making room for more than one.
pub(super) fn read_hello(stream: &mut impl Read) -> io::Result<Hello> {
    let mut frame = [0u8; PREFIX + HELLO];
    stream.read_exact(&mut frame)?;
    let payload = match parse(&frame) {
        Ok(Some((payload, _))) => payload,
        _ => &[],
    };
    Hello::parse(payload).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a hello"))
}

fn payload_length(prefix: [u8; PREFIX]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(prefix);
    match usize::try_from(length) {
        Ok(n) if (1..=MAX_FRAME).contains(&n) => Ok(n),
        _ => Err(FrameError::Length(length.into())),
    }
}

fn finish(mut frame: Vec<u8>) -> Result<Vec<u8>, FrameError> {
    let length = frame.len() - PREFIX;
    match u32::try_from(length) {
        Ok(n) if length <= MAX_FRAME => {
            frame[..PREFIX].copy_from_slice(&n.to_be_bytes());
            Ok(frame)
        }
        _ => Err(FrameError::Length(length as u64)),
    }
}

const PREFIX: usize = 4;
const MAGIC: &[u8; 8] = b"chancery";
const HELLO: usize = MAGIC.len() + 2 + 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_survives() {
        let request = Request { id: 7, question: Question::SignTls { message: vec![1; 300] } };
        let frame = encode(&request).unwrap();
        let (payload, taken) = parse(&frame).unwrap().unwrap();
        assert_eq!(taken, frame.len());
        assert_eq!(decode::<Request>(payload), Ok(request));
    }

    #[test]
    fn a_frame_is_bounded_both_ways() {
        let largest = vec![0u8; MAX_FRAME];
        let sign = |n: usize| Question::SignTls { message: largest[..n].to_vec() };
        assert!(encode(&Request { id: 0, question: sign(MAX_FRAME - 16) }).is_ok());
        assert!(matches!(
            encode(&Request { id: 0, question: sign(MAX_FRAME) }),
            Err(FrameError::Length(_))
        ));
        for length in [0u32, MAX_FRAME as u32 + 1, u32::MAX] {
            assert_eq!(parse(&length.to_be_bytes()), Err(FrameError::Length(length.into())));
            let mut payload = Vec::new();
            assert!(read(&mut &length.to_be_bytes()[..], &mut payload).is_err());
            assert_eq!(payload.capacity(), 0, "made room for a length it refuses");
        }
    }

    #[test]
    fn octets_after_the_message_are_refused() {
        let mut payload =
            encode(&Request { id: 1, question: Question::Health }).unwrap()[4..].to_vec();
        assert!(decode::<Request>(&payload).is_ok());
        payload.push(0);
        assert_eq!(decode::<Request>(&payload), Err(FrameError::Message));
    }

    #[test]
    fn the_end_between_frames_is_not_an_error_and_within_one_is() {
        let frame = encode(&Request { id: 1, question: Question::Health }).unwrap();
        let mut payload = Vec::new();
        assert!(!read(&mut &[][..], &mut payload).unwrap());
        assert!(read(&mut &frame[..], &mut payload).unwrap());
        for cut in 1..frame.len() {
            assert!(read(&mut &frame[..cut], &mut payload).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_hello_survives_and_nothing_else_is_one() {
        let hello = Hello::new([9; 32]);
        let frame = hello.frame();
        assert_eq!(read_hello(&mut &frame[..]).unwrap(), hello);
        for at in 0..4 + MAGIC.len() {
            let mut other = frame.clone();
            other[at] ^= 1;
            assert!(read_hello(&mut &other[..]).is_err(), "octet {at}");
        }
    }

    proptest! {
        #[test]
        fn parse_agrees_with_read(bytes in proptest::collection::vec(any::<u8>(), 0..64), length in 0u32..48) {
            let mut stream = length.to_be_bytes().to_vec();
            stream.extend(bytes);
            let mut payload = Vec::new();
            let read_it = read(&mut &stream[..], &mut payload).is_ok_and(|more| more);
            match parse(&stream) {
                Ok(Some((parsed, _))) => {
                    prop_assert!(read_it);
                    prop_assert_eq!(parsed, &payload[..]);
                }
                Ok(None) | Err(_) => prop_assert!(!read_it),
            }
        }

        #[test]
        fn decode_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<Request>(&bytes);
            let _ = decode::<Response>(&bytes);
        }
    }
}
