//! The web process: sockets, TLS, the store, DNS, confinement.

use super::Entry;

pub(super) const CODES: &[Entry] = &[
    Entry {
        code: "CHY-CONFINE",
        means: "The web process cannot confine itself: this kernel has no Landlock, or refuses it.",
        do_this: "Use a kernel with Landlock (5.13 or newer, `lsm=landlock,…`), or accept the risk with [web] unconfined = true.",
    },
    Entry {
        code: "CHY-DNS-MULTICAST",
        means: "An interface of [validation] mdns-interfaces is not there, so names below `local` are not asked on it. It is looked for anew at each question.",
        do_this: "Compare the name with `ip link`; if the interface only comes up late, nothing need be done.",
    },
    Entry {
        code: "CHY-DNS-SYSTEM",
        means: "The system's DNS servers could not be read from /etc/resolv.conf, or the resolver could not be built; names outside the configured zones do not resolve.",
        do_this: "Name the servers under [[validation.resolvers]], with zone `.` for the default, or mend /etc/resolv.conf and restart.",
    },
    Entry {
        code: "CHY-SOCKET",
        means: "The issuer's socket cannot be made.",
        do_this: "See that its directory exists and belongs to the issuer's user; the message names the path.",
    },
    Entry {
        code: "CHY-SOCKET-IN-USE",
        means: "Another issuer answers at the socket: only one may run.",
        do_this: "Stop the other one, or configure another [state] dir.",
    },
    Entry {
        code: "CHY-SOCKET-THREADS",
        means: "A thread that listens at the issuer's socket cannot start.",
        do_this: "Raise the limit on tasks (`TasksMax=` of the unit, or `ulimit -u`).",
    },
    Entry {
        code: "CHY-STORE",
        means: "The store of orders cannot be opened or written.",
        do_this: "Check disk and owner of the web directory; the store holds no certificate and can be recreated, but open orders are then lost.",
    },
    Entry {
        code: "CHY-STORE-CORRUPT",
        means: "The store of orders is damaged, or a newer release wrote it.",
        do_this: "Restore it from a backup, or move the file away to begin with an empty one: accounts and open orders are then lost, certificates and their log are not.",
    },
    Entry {
        code: "CHY-STORE-IO",
        means: "The store of orders could not be read or written while serving; nothing is known of the last write, so the process stops.",
        do_this: "Check disk and file system (`dmesg`, `df`), then start again: it recovers by itself.",
    },
    Entry {
        code: "CHY-STORE-LOCKED",
        means: "Another process has the store of orders open.",
        do_this: "Stop the other one (`systemctl status chancery-web`), or give this one another state directory.",
    },
    Entry {
        code: "CHY-TLS-CERTIFICATE",
        means: "This box has no TLS certificate for itself, or it ends soon, and none can be made.",
        do_this: "See the other problems in `chancery status`; check [issuer] tls-names.",
    },
    Entry {
        code: "CHY-TLS-MESSAGE",
        means: "The TLS key was asked to sign something that is no TLS handshake. It did not.",
        do_this: "The web process is faulty or taken over: restart it, keep its logs, and look into them.",
    },
    Entry {
        code: "CHY-TLS-NAMES",
        means: "The names of this box for its own certificate are missing, do not parse, or are outside what the issuing certificate permits.",
        do_this: "Correct [issuer] tls-names.",
    },
    Entry {
        code: "CHY-TLS-PENDING",
        means: "The issuer answers but has not made the certificate of this box itself yet, so no TLS connection can be served.",
        do_this: "It passes within seconds of a start; if not, see the other problems in `chancery status`: mostly the token, the clock or the disk.",
    },
    Entry {
        code: "CHY-WEB-AWAY",
        means: "The web process does not answer.",
        do_this: "Start it, or see why it stopped: `journalctl -u chancery-web`, or the output of `chancery serve`.",
    },
    Entry {
        code: "CHY-WEB-ISSUER",
        means: "A certificate is of an issuing CA that the web process does not know: a ceremony made it since this process started.",
        do_this: "Restart the web process. The certificate is issued and is handed out then.",
    },
];
