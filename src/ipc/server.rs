//! The issuer side: accepts, checks the peer and the hello, calls the `Service`.
