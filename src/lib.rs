//! Chancery: a certificate authority appliance. A tour of the rooms, outermost last.

pub mod acme;
pub mod app;
pub mod audit;
pub mod backup;
pub mod ceremony;
pub mod cli;
pub mod config;
pub mod env;
pub mod hsm;
pub mod id;
pub mod ipc;
pub mod issuer;
pub mod log;
pub mod pki;
pub mod state;
pub mod store;
pub mod tlog;
pub mod turns;
pub mod validate;
pub mod web;
