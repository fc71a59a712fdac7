//! What the issuer decides and keeps: accounts, certificates, tickets, revocation, and who asks it.

use super::Entry;

pub(super) const CODES: &[Entry] = &[
    Entry {
        code: "CHY-ACCOUNT-CAP",
        means: "An account has had all the certificates that issuance-per-account-per-hour allows.",
        do_this: "Look at what the account does (`chancery log list`); raise [issuer] issuance-per-account-per-hour if it is right to.",
    },
    Entry {
        code: "CHY-ACCOUNT-UNKNOWN",
        means: "There is no account of this id.",
        do_this: "`chancery account list` shows all; it is the last part of the account's URL.",
    },
    Entry {
        code: "CHY-ADMIN-AWAY",
        means: "No issuer answers at its admin socket, or it ended in the middle of a question.",
        do_this: "Start the box (`chancery serve`, or systemctl start chancery-issuer) and ask again; after a lost answer look first whether it was done (`chancery log tail`).",
    },
    Entry {
        code: "CHY-ADMIN-DENIED",
        means: "Only the issuer's user and root, who can read state/issuer/admin, may ask the issuer what this command asks. Logged by the issuer: someone without the key tried.",
        do_this: "Run the command as the issuer's user or as root. Found in the issuer's log: find out who runs as that user.",
    },
    Entry {
        code: "CHY-ADMIN-MISMATCH",
        means: "The running issuer is another version of this program.",
        do_this: "Restart the box, so that it runs what is installed.",
    },
    Entry {
        code: "CHY-ADMIN-REFUSED",
        means: "The running issuer will not do what was asked.",
        do_this: "The message says why.",
    },
    Entry {
        code: "CHY-ADMIN-SIZE",
        means: "More was asked of the issuer at once than a question may hold (256 KiB).",
        do_this: "Ask in parts.",
    },
    Entry {
        code: "CHY-CERT-FILE",
        means: "A file that should hold a certificate holds none that can be read.",
        do_this: "Give the certificate in PEM (of a chain the first counts) or in DER.",
    },
    Entry {
        code: "CHY-CERT-REVOKED",
        means: "The certificate was revoked before; nothing was done.",
        do_this: "`chancery cert show SERIAL` says when and by whom.",
    },
    Entry {
        code: "CHY-CERT-UNKNOWN",
        means: "This CA issued no certificate with that serial.",
        do_this: "Take the serial from `chancery cert list`, or from the certificate: `openssl x509 -noout -serial`.",
    },
    Entry {
        code: "CHY-CRL-STALE",
        means: "The CRL is near its end and no new one can be signed; devices that check it will refuse every certificate then.",
        do_this: "See the other problems in `chancery status`: mostly the token, the clock or the disk.",
    },
    Entry {
        code: "CHY-IPC-BROKEN",
        means: "Web and issuer process do not understand each other.",
        do_this: "Restart both; both must be the same version and read the same configuration.",
    },
    Entry {
        code: "CHY-IPC-MISMATCH",
        means: "Web process and issuer are of different versions or have read different configurations, or what answers at the socket is not an issuer.",
        do_this: "Restart both: `systemctl restart chancery-issuer chancery-web`, or `chancery serve`.",
    },
    Entry {
        code: "CHY-IPC-PEER",
        means: "The process at the other end of the issuer's socket runs as a user that is not expected there.",
        do_this: "Find out who it is; the expected users are those of the two services.",
    },
    Entry {
        code: "CHY-IPC-SOCKET",
        means: "The issuer's socket cannot be made or reached.",
        do_this: "Check that the issuer runs and that owner and mode of the run directory let the web process in.",
    },
    Entry {
        code: "CHY-IPC-THREADS",
        means: "A thread of the connection between web process and issuer cannot start.",
        do_this: "Raise the limit on tasks (`TasksMax=` of the unit, or `ulimit -u`).",
    },
    Entry {
        code: "CHY-ISSUANCE-CAP",
        means: "All the certificates that issuance-per-hour allows were issued within the hour; further orders wait.",
        do_this: "Find out who orders them (`chancery log list`); raise [issuer] issuance-per-hour if it is right to.",
    },
    Entry {
        code: "CHY-ISSUER-AWAY",
        means: "The issuer process does not answer.",
        do_this: "See why it stopped: `journalctl -u chancery-issuer`, or the output of `chancery serve`.",
    },
    Entry {
        code: "CHY-ISSUER-BUSY",
        means: "The issuer cannot record what was asked at present: its disk is full, or its clock is not believed.",
        do_this: "Look at `chancery status`, and ask again.",
    },
    Entry {
        code: "CHY-LINT",
        means: "A certificate was written that the lints refuse, so it was not signed. This is a bug.",
        do_this: "Report it with the log lines around it; other requests are not affected.",
    },
    Entry {
        code: "CHY-RANDOM-SOURCE",
        means: "The operating system gave no random octets; the process stopped, since nothing can be signed safely without them.",
        do_this: "Look for kernel messages about the random source; on a new board wait until it has gathered entropy, then restart.",
    },
    Entry {
        code: "CHY-RECALL",
        means: "A recall was asked for that makes no sense, or one that does not count is to end.",
        do_this: "Correct the window or the URL; `chancery recall list` shows the recalls that count.",
    },
    Entry {
        code: "CHY-REGISTRATIONS",
        means: "More accounts were asked for than registrations-per-hour allows; the rest must wait.",
        do_this: "Find out who makes them; raise [issuer] registrations-per-hour if it is right to.",
    },
    Entry {
        code: "CHY-REVOCATIONS",
        means: "More certificates were to be revoked within an hour than revocations-per-account-per-hour or revocations-of-others-per-hour allows.",
        do_this: "Find out who asks (`chancery log list --kind revoked`); revoke what must be revoked yourself (`chancery cert revoke`), or raise the limit if it is right to.",
    },
    Entry {
        code: "CHY-TICKET-ALTERED",
        means: "A ticket's file says something else than the log recorded when the ticket was minted.",
        do_this: "Find out who changed files below issuer/tickets; restore them from a backup. The ticket is not honoured meanwhile.",
    },
    Entry {
        code: "CHY-TICKET-BAD",
        means: "A ticket was asked for that makes no sense: a name that no one gets, a profile that is not there, no use, or an end in the past.",
        do_this: "Correct what the message names. Nothing was minted.",
    },
    Entry {
        code: "CHY-TICKET-CLASH",
        means: "A name would be bound to two tickets, or is bound to one that still holds it.",
        do_this: "Choose other names, or --shared for both; or revoke the ticket that holds the name and deactivate its accounts.",
    },
    Entry {
        code: "CHY-TICKET-FILE",
        means: "A file of enrolment tickets, below issuer/tickets, cannot be read or written.",
        do_this: "Look at the disk and at who owns the file. Restore it from a backup; taken away, its tickets are lost, and accounts that registered with them get no certificates.",
    },
    Entry {
        code: "CHY-TICKET-LOST",
        means: "An account asks for a certificate, and the ticket it registered with is in no file of the issuer: what it may have is not known.",
        do_this: "Restore issuer/tickets from a backup; or deactivate the account (`chancery account deactivate`) and give its device a new ticket.",
    },
    Entry {
        code: "CHY-TICKET-PARTLY",
        means: "Of several tickets only some were recorded, and their secrets were not shown to anyone.",
        do_this: "Revoke them (`chancery ticket list`, `chancery ticket revoke`) and mint again when `chancery status` is well.",
    },
    Entry {
        code: "CHY-TICKET-UNKNOWN",
        means: "There is no ticket of this id.",
        do_this: "`chancery ticket list` shows all.",
    },
    Entry {
        code: "CHY-VALIDITY",
        means: "No certificate of the asked lifetime can be made, mostly because the issuing certificate ends too soon.",
        do_this: "Hold a ceremony for a new issuing certificate, or shorten the profile's lifetime.",
    },
];
