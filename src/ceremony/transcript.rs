//! Ceremony: transcript.
