//! An `Issuer` over a `Service` in the same process: how most tests run.
