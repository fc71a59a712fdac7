//! A box and what its devices need: the box on SoftHSM2, a runtime, an http-01 responder, clients.

#[path = "client.rs"]
pub mod client;
#[path = "lab.rs"]
pub mod lab;

use std::path::Path;
use std::sync::Arc;

use chancery::pki::certificate::Certificate;
use client::{Client, Responder};
use lab::{Lab, Options};
use tokio::runtime::{Builder, Runtime};

/// Everything ends with the value, the box first.
pub struct Plant {
    pub lab: Lab,
    pub responder: Responder,
    pub runtime: Arc<Runtime>,
    _dir: Option<tempfile::TempDir>,
}

impl Plant {
    /// A box that serves, in a directory of its own. Validation asks the responder, whatever `options` say.
    pub fn start(options: Options) -> Self {
        let mut plant = Self::prepare(options);
        plant.lab.serve();
        plant
    }

    /// Token, configuration and ceremony; nothing serves yet.
    pub fn prepare(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plant = Self::prepare_in(dir.path(), options);
        Self { _dir: Some(dir), ..plant }
    }

    /// The same in `dir`, which must exist and outlive it.
    pub fn prepare_in(dir: &Path, options: Options) -> Self {
        Self::built(options, |options| Lab::prepare(dir, options))
    }

    /// Token and configuration: the ceremony is still to be held.
    pub fn without_ceremony(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plant = Self::built(options, |options| Lab::without_ceremony(dir.path(), options));
        Self { _dir: Some(dir), ..plant }
    }

    fn built(options: Options, lab: impl FnOnce(&Options) -> Lab) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let responder = runtime.block_on(Responder::start(0)).unwrap();
        let options = Options { http_port: responder.address.port(), ..options };
        Self { lab: lab(&options), responder, runtime: Arc::new(runtime), _dir: None }
    }

    /// A device with a fresh account key; nothing is sent yet.
    pub fn client(&self) -> Client {
        Client::new(self.lab.acme, "localhost", "/acme/directory", self.responder.clone())
    }

    /// A device with an account.
    pub fn registered(&self) -> Client {
        let mut client = self.client();
        self.runtime.block_on(client.register()).unwrap();
        client
    }

    /// One order from beginning to end; the certificate without its chain.
    pub fn enrol(&self, client: &mut Client, names: &[&str]) -> Certificate {
        leaf(&self.runtime.block_on(client.order(names)).unwrap().chain)
    }
}

/// The first certificate of a chain.
pub fn leaf(chain: &str) -> Certificate {
    let end = "-----END CERTIFICATE-----";
    let first = chain.split_once(end).unwrap().0;
    Certificate::parse_pem(&format!("{}{end}\n", first.trim_start())).unwrap()
}
