//! A box whose token takes its time: so long for each signature, one at a time.

use std::path::Path;

use crate::faulty::Faulty;
use crate::lab::{Lab, Options, softhsm};

/// A running box.
pub struct Slow {
    pub lab: Lab,
    pub faulty: Faulty,
}

/// Signatures that were made since the token became slow.
#[derive(Clone, Copy, Debug)]
pub struct Signed {
    /// With the issuing key: CRLs too.
    pub certificates: usize,
    pub checkpoints: usize,
    pub handshakes: usize,
}

impl Signed {
    pub fn since(self, before: Self) -> Self {
        Self {
            certificates: self.certificates - before.certificates,
            checkpoints: self.checkpoints - before.checkpoints,
            handshakes: self.handshakes - before.handshakes,
        }
    }
}

impl Slow {
    /// Started in `dir`; the token becomes slow when everything stands.
    pub fn start(dir: &Path, http_port: u16, millis: u32, tls_key: &str) -> Self {
        let faulty = Faulty::around(&softhsm(), dir);
        let more = format!(
            "\n[token]\nmodule = \"{}\"\nthreads = 1\ntls-key = \"{tls_key}\"\n",
            faulty.module.display()
        );
        let lab = Lab::start_in(dir, Options { http_port, more, ..Options::default() });
        let mut rules = String::from("one-at-a-time\n");
        for (label, id) in [("issuing", "certificate"), ("log", "checkpoint"), ("tls", "handshake")]
        {
            rules += &format!("on C_Sign label chancery-{label} id {id} do sleep {millis}\n");
        }
        faulty.rules(&rules);
        Self { lab, faulty }
    }

    pub fn signed(&self) -> Signed {
        Signed {
            certificates: self.faulty.fired("certificate"),
            checkpoints: self.faulty.fired("checkpoint"),
            handshakes: self.faulty.fired("handshake"),
        }
    }
}
